//! `man`: the manual pages, made from the program.
//!
//! Owns the folder that they are written to. Their contents come from the command line (`man/verbs.rs`) and from the keys of the configuration
//! (`man/configuration.rs`), so they agree with `--help` and with the keys that are read.

mod configuration;
mod keys;
mod verbs;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap_mangen::roff::Roff;
use serde_json::json;

use crate::instance::program::{BUILD, BUILD_DATE};
use crate::output::Output;

/// The foot of each page.
const MANUAL: &str = "icmp-ctl manual";

/// A page: its file's name, and what is in it.
type Page = (String, Vec<u8>);

/// Writes all pages to a folder, which is made where there is none.
pub(super) fn run(folder: &Path) -> Result<Output> {
    fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let pages = [verbs::pages()?, vec![configuration::page()?]].concat();
    for (name, page) in &pages {
        let file = folder.join(name);
        fs::write(&file, page).with_context(|| format!("writing {}", file.display()))?;
    }
    let names: Vec<_> = pages.into_iter().map(|(name, _)| name).collect();
    let line = format!("{} pages in {}", names.len(), folder.display());
    Ok(Output::done(json!({ "schema": 1, "pages": names }), vec![line]))
}

/// The head of a page.
fn title(roff: &mut Roff, name: &str, section: &str) {
    roff.control("TH", [name, section, BUILD_DATE, &format!("icmp-ctl {BUILD}"), MANUAL]);
}
