//! Owns asking for a page over HTTP, inside a namespace.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::netns::Namespace;

const LIMIT: Duration = Duration::from_secs(30);

/// The body of the answer to one request of HTTP 1.0, made inside the namespace.
///
/// # Panics
/// If the answer is anything but a page.
#[must_use]
pub fn get(namespace: &Namespace, address: &str, path: &str) -> String {
    let (head, body) = answer(namespace, address, &format!("GET {path} HTTP/1.0\r\n"));
    assert!(head.contains(" 200 "), "{address}{path}: {head}");
    body
}

/// Head and body of the answer to a request, which is given without the header lines that all have.
///
/// # Panics
/// If there is no answer, or one that is not HTTP.
#[must_use]
pub fn answer(namespace: &Namespace, address: &str, request: &str) -> (String, String) {
    let answer = namespace.enter(|| {
        let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        write!(stream, "{request}Host: {address}\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|e| panic!("{address}: {request}: {e}"));
        answer
    });
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
    (head.to_owned(), body.to_owned())
}
