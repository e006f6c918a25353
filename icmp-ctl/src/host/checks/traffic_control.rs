//! Programs and filters of traffic control at an interface's ingress, which frames that are answered never reach.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use futures_util::TryStreamExt as _;
use netlink_packet_route::tc::TcAttribute;
use nix::libc;

use crate::failure::{has_errno, sentence};
use crate::finding::{Finding, State};
use crate::host::netlink::{Link, ask, event_loop};

const CHECK: &str = "traffic-control";

/// Whether anything is there.
pub(super) fn is_bypassed(link: &Link) -> Finding {
    let mut there: Vec<String> = match filters(link.index) {
        Ok(kinds) => kinds.into_iter().map(|kind| format!("a {kind} filter")).collect(),
        Err(error) => {
            let what = "what filters are at its ingress is not known";
            return Finding::new(CHECK, State::Unknown, what, sentence(&error)).on(&link.name);
        }
    };
    match SchedClassifier::query_tcx(&link.name, TcAttachType::Ingress).map_err(anyhow::Error::new) {
        Ok((_, programs)) => there.extend(
            programs
                .iter()
                .map(|program| format!("the program {}", program.name_as_str().unwrap_or_default())),
        ),
        // Kernels before 6.6 have no such programs.
        Err(error) if has_errno(&error, &[libc::EINVAL]) => {}
        Err(error) if there.is_empty() => {
            let what = "what programs are at its ingress is not known";
            return Finding::new(CHECK, State::Unknown, what, sentence(&error)).on(&link.name);
        }
        Err(_) => there.push("perhaps a program".to_owned()),
    }
    if there.is_empty() {
        return Finding::fine(CHECK, "nothing at its ingress").on(&link.name);
    }
    let what =
        format!("at its ingress is {}, which pings that are answered never reach", there.join(" and "));
    let why =
        "what it refuses, counts or marks it does to the others only; a [[policy.rule]] can refuse the same";
    Finding::new(CHECK, State::Unknown, what, why).on(&link.name)
}

/// Kinds of the filters at the ingress of an interface.
fn filters(index: u32) -> Result<BTreeSet<String>> {
    event_loop()?.block_on(ask(async |handle| {
        let filters = handle
            .traffic_filter(index.cast_signed())
            .get()
            .ingress()
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let attributes = filters
            .context("reading the filters at its ingress")?
            .into_iter()
            .flat_map(|filter| filter.attributes);
        Ok(attributes
            .filter_map(|attribute| if let TcAttribute::Kind(kind) = attribute { Some(kind) } else { None })
            .collect())
    }))
}
