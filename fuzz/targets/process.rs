//! The fuzzer's program for `icmp_fuzz::process`.
#![no_main]

use icmp_fuzz::{mutate, process, seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(init: seeds::write(seeds::process()), |input: &[u8]| process::check(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::process(data, size, max_size, seed, fuzzer_mutate)
});
