//! The front page for browsers: a description, the attached interfaces, and links to the other pages.

use std::fmt::Write as _;

use anyhow::Result;

use crate::host::netlink::Network;
use crate::instance::pins::View;
use crate::instance::program::BUILD;

/// The page, HTML without a script or anything from elsewhere.
///
/// # Errors
/// The kernel does not tell what is attached.
pub(super) fn page() -> Result<String> {
    let network = Network::read_once()?;
    let pins = View::look(|instance| instance.links())?.unwrap_or_default();
    let attached = network.links.iter().filter(|link| pins.iter().any(|pin| pin.is_of(link)));
    let attached: Vec<_> =
        attached.map(|link| (link.name.as_str(), link.xdp.map_or("none", |xdp| xdp.mode))).collect();
    Ok(html(&attached))
}

fn html(attached: &[(&str, &str)]) -> String {
    let mut interfaces = String::new();
    for (name, mode) in attached {
        // An interface may be called almost anything.
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        // A String takes whatever is written.
        let _ = writeln!(interfaces, "<tr><td>{name}<td>{mode}");
    }
    let interfaces = if attached.is_empty() {
        "<p>Nothing is attached in this network namespace.\n".to_owned()
    } else {
        format!("<table>\n<tr><th>Interface<th>Mode\n{interfaces}</table>\n")
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>icmp-ctl</title>\n\
         <style>body {{ font-family: sans-serif; margin: 2em }} th {{ text-align: left }} td, th {{ padding-right: 2em }}</style>\n\
         <h1>icmp-ctl</h1>\n<p>ICMP answered and limited in the network driver, build {BUILD}\n{interfaces}\
         <p><a href=\"metrics\">Metrics</a> · <a href=\"healthz\">Health</a>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_called_like_a_tag_is_none() {
        let page = html(&[("<b>&", "native")]);
        assert!(
            page.contains("<tr><td>&lt;b>&amp;<td>native\n") && page.contains("href=\"metrics\""),
            "{page}"
        );
        assert!(html(&[]).contains("Nothing is attached"));
    }
}
