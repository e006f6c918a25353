//! What is said on standard error: everything that is not data.

/// Says something worth knowing.
pub fn note(text: &str) {
    eprintln!("icmp-ctl: {text}");
}

/// Says something that is probably not what was meant.
pub fn warn(text: &str) {
    eprintln!("icmp-ctl: WARNING: {text}");
}
