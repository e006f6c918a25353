//! Mutations of inputs: as any bytes, or as frames or lines.
//!
//! Owns the choice. icmp-tests' generator changes frames, lines come from the seeds, the fuzzer changes bytes.

use std::sync::LazyLock;

use icmp_tests::generate::{Random, frame, repair};

use crate::knobs::KNOBS;
use crate::seeds;

/// The fuzzer's own change: of data, the size it has and the most it may have, to the size it has then.
pub type Bytewise = fn(&mut [u8], usize, usize) -> usize;

/// Changes an input of `process`, `data[..size]`, by what `seed` says; how long it is then.
pub fn process(data: &mut [u8], size: usize, max_size: usize, seed: u32, bytewise: Bytewise) -> usize {
    let mut random = Random::new(seed.into());
    if size <= KNOBS || max_size <= KNOBS {
        return bytewise(data, size, max_size);
    }
    match random.below(8) {
        // A frame most of which is right, on the same host.
        0 => {
            let frame = frame(&mut random);
            let size = max_size.min(KNOBS + frame.len());
            data[KNOBS..size].copy_from_slice(&frame[..size - KNOBS]);
            size
        }
        // The same frame, on another host.
        1 | 2 => {
            bytewise(data, KNOBS, KNOBS);
            size
        }
        // What is behind the checksums is reached only if they are right.
        3..=5 => {
            let frame = bytewise(&mut data[KNOBS..], size - KNOBS, max_size - KNOBS);
            repair(&mut data[KNOBS..KNOBS + frame]);
            KNOBS + frame
        }
        _ => bytewise(data, size, max_size),
    }
}

/// Every line of the seeds.
static LINES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut lines: Vec<Vec<u8>> = seeds::config()
        .into_iter()
        .flat_map(|(_, text)| {
            text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines
});

/// The same of `config`: lines of other configurations come in, or take the place of some, and lines go.
pub fn config(data: &mut [u8], size: usize, max_size: usize, seed: u32, bytewise: Bytewise) -> usize {
    let mut random = Random::new(seed.into());
    if random.once_in(2) {
        return bytewise(data, size, max_size);
    }
    let mut lines: Vec<&[u8]> = data[..size].split_inclusive(|byte| *byte == b'\n').collect();
    for _ in 0..=random.below(3) {
        let at = random.below(lines.len() + 1);
        let line = &LINES[random.below(LINES.len())];
        match random.below(4) {
            0 if at < lines.len() => lines[at] = line,
            1 if at < lines.len() => _ = lines.remove(at),
            _ => lines.insert(at, line),
        }
    }
    let text = lines.concat();
    let size = text.len().min(max_size);
    data[..size].copy_from_slice(&text[..size]);
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_is_longer_than_it_may_be() {
        let cut = |_: &mut [u8], size: usize, most: usize| (size + 3).min(most);
        for seed in 0..500 {
            for change in [process, config] {
                let mut data = vec![0; 400];
                let size = 14 + seed as usize % 300;
                assert!(change(&mut data, size, 350, seed, cut) <= 350);
            }
        }
    }
}
