//! Checks of a driver: native mode, and frames that it merges before the program sees them.

use crate::diagnostics::shell_word;
use crate::failure::{has_errno, sentence};
use crate::finding::{Finding, State};
use crate::host::checks::Place;
use crate::kernel::ethtool::{are_on, driver_name};
use crate::kernel::netdev::XdpFeatures;
use netlink_packet_route::link::InfoKind;
use nix::libc;

const CHECK: &str = "native-mode";

/// Whether the program runs in the driver, or can.
pub(super) fn native(place: Place<'_>) -> Finding {
    let name = &place.link.name;
    let driver = driver_name(name).unwrap_or_else(|_| "without a name".to_owned());
    let features = XdpFeatures::read(place.link.index);
    let is_veth = place.link.kind == Some(InfoKind::Veth);
    judge(name, &driver, place.mode, is_veth, features.map_err(|error| sentence(&error))).on(name)
}

fn judge(
    name: &str,
    driver: &str,
    mode: Option<&str>,
    is_veth: bool,
    features: Result<Option<XdpFeatures>, String>,
) -> Finding {
    let unknown = |why: &str| {
        Finding::new(CHECK, State::Unknown, format!("whether driver {driver} has it is not known"), why)
    };
    match (mode, features) {
        (Some(mode @ ("native" | "offload")), _) => {
            Finding::fine(CHECK, format!("runs in {mode} mode, driver {driver}"))
        }
        (_, Err(error)) => unknown(&error),
        (_, Ok(None)) => unknown("kernels before 6.3 do not tell; attaching does"),
        (_, Ok(Some(features))) if !features.is_native() => Finding::new(
            CHECK,
            State::Slow,
            format!("driver {driver} has no native mode"),
            "the program runs in the kernel's generic code, which is several times slower",
        ),
        // Where its other end has no program, generic mode is the one in which answers arrive.
        (Some(mode), _) if is_veth => {
            Finding::fine(CHECK, format!("runs in {mode} mode, driver {driver} has native mode"))
        }
        (Some(mode), _) => Finding::new(
            CHECK,
            State::Slow,
            format!("runs in {mode} mode, although driver {driver} has native mode"),
            "generic mode is several times slower",
        )
        .fixed_by(format!("icmp-ctl detach {0} && icmp-ctl attach {0} --mode native", shell_word(name))),
        (None, _) => Finding::fine(CHECK, format!("driver {driver} has it")),
    }
}

/// Whether the driver merges frames, because of which some refuse a program in native mode (mlx5e_xdp_allowed() in
/// drivers/net/ethernet/mellanox/mlx5/core/en_main.c).
pub(super) fn merging(place: Place<'_>) -> Finding {
    const CHECK: &str = "merging";
    const FEATURES: [&str; 2] = ["rx-lro", "rx-gro-hw"];
    let name = &place.link.name;
    let is_on = match are_on(name, FEATURES) {
        Ok(is_on) => is_on,
        Err(error) if has_errno(&error, &[libc::EOPNOTSUPP]) => [false; 2],
        Err(error) => {
            let what = "whether the card merges frames is not known";
            return Finding::new(CHECK, State::Unknown, what, sentence(&error)).on(name);
        }
    };
    // virtio_net stops it by itself as long as a program is there (virtnet_xdp_set() in drivers/net/virtio_net.c).
    let is_in_the_way =
        place.mode != Some("native") && !driver_name(name).is_ok_and(|driver| driver == "virtio_net");
    match FEATURES.into_iter().zip(is_on).find(|(_, is_on)| *is_on) {
        Some((feature, _)) if is_in_the_way => Finding::new(
            CHECK,
            State::Slow,
            format!("the card merges frames ({feature})"),
            "some drivers refuse native mode while they do",
        )
        .on(name)
        .fixed_by(format!("ethtool -K {} {feature} off", shell_word(name))),
        _ => Finding::fine(CHECK, "no frames are merged in the way of native mode").on(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_mode_is_slow_where_the_driver_has_a_better_one_or_none() {
        let native = Ok(Some(XdpFeatures(0x27)));
        let none = Ok(Some(XdpFeatures(0)));
        for (mode, is_veth, features, expected) in [
            (None, false, native.clone(), State::Fine),
            (None, false, none.clone(), State::Slow),
            (None, false, Ok(None), State::Unknown),
            (None, false, Err("refused".to_owned()), State::Unknown),
            (Some("native"), false, Ok(None), State::Fine),
            (Some("generic"), false, native.clone(), State::Slow),
            (Some("generic"), true, native, State::Fine),
            (Some("generic"), false, none, State::Slow),
        ] {
            let found = judge("eth0", "d", mode, is_veth, features);
            assert_eq!(found.state, expected, "{mode:?} {found:?}");
            let helps = mode.is_some() && found.what.contains("although");
            assert_eq!(found.fix.is_some(), helps, "{found:?}");
        }
    }
}
