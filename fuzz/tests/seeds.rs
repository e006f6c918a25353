//! The targets on the fuzzer's seeds, and on the frames of the differential test.

use icmp_fuzz::{capture, config, process, seeds};
use icmp_tests::generate::{self, Random};

#[test]
fn every_vector_holds_on_its_host_and_on_others() {
    for (i, (name, input)) in seeds::process().into_iter().enumerate() {
        println!("{name}");
        process::check(&input);
        // Another host for each knob, in positions that take turns.
        for knob in 0..process::KNOBS {
            let mut input = input.clone();
            input[knob] = [1, 2, 4, 6, 0x42, 0xff][(i + knob) % 6];
            process::check(&input);
        }
    }
}

#[test]
fn generated_frames_hold_on_hosts_at_random() {
    let mut random = Random::new(generate::seed());
    for _ in 0..10_000 {
        let mut input: Vec<u8> =
            (0..process::KNOBS).map(|_| if random.once_in(8) { random.byte() } else { 0 }).collect();
        input.extend(generate::frame(&mut random));
        process::check(&input);
    }
}

#[test]
fn every_configuration_that_is_known_holds() {
    for (name, input) in seeds::config() {
        println!("{name}");
        config::check(&input);
    }
}

#[test]
fn every_capture_that_is_known_and_beginnings_of_it_hold() {
    for (name, input) in seeds::capture() {
        println!("{name}");
        capture::check(&input);
        (0..input.len()).step_by(61).for_each(|length| capture::check(&input[..length]));
    }
}
