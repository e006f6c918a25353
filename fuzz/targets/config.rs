//! The fuzzer's program for `icmp_fuzz::config`.
#![no_main]

use icmp_fuzz::{config, mutate, seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(init: seeds::write(seeds::config()), |input: &[u8]| config::check(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::config(data, size, max_size, seed, fuzzer_mutate)
});
