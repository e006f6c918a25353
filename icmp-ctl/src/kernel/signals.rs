//! What signals do to this process.

/// Ends this process when whoever reads its output has seen enough, as other commands of a pipeline do. Sockets are not concerned:
/// the standard library sends with `MSG_NOSIGNAL`.
pub fn end_with_closed_pipe() {
    // SAFETY: the default action is no handler, so nothing of this process runs in one.
    let _never_fails = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
}
