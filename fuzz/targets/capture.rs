//! The fuzzer's program for `icmp_fuzz::capture`.
#![no_main]

use icmp_fuzz::{capture, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write(seeds::capture()), |input: &[u8]| capture::check(input));
