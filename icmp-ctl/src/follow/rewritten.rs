//! Whether the text of the configuration's file has changed, for `--reload-on-change`.
//!
//! Owns that an unreadable file is reported once.

use std::path::Path;

use crate::config::file::Config;
use crate::diagnostics::{note_about, warn_about};
use crate::failure::sentence;

/// The file as it was when it was looked at last.
pub(super) struct Rewritten {
    text: String,
    /// Why it could not be looked at, where it could not be.
    pub(super) unread: Option<String>,
}

impl Rewritten {
    /// That of this configuration.
    pub(super) fn since(config: &Config) -> Self {
        Self { text: config.text().to_owned(), unread: None }
    }

    /// Looks again. One that cannot be read is not another one: whoever replaces a file may have removed it first.
    pub(super) fn look(&mut self, path: Option<&Path>) -> bool {
        let text = match Config::text_again(path) {
            Ok(text) => text,
            Err(error) => {
                let why = format!("{}; what was in force stays", sentence(&error));
                if self.unread.is_none() {
                    warn_about("reload", None, &why);
                }
                self.unread = Some(why);
                return false;
            }
        };
        let is_new = self.text != text;
        if self.unread.take().is_some() && !is_new {
            note_about("recovery", None, "the configuration can be read again, and has not changed");
        }
        self.text = text;
        is_new
    }
}
