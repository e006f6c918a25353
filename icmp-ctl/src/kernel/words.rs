//! Array maps as words of 64 bits, whatever their layout: read and written, and changed while a program writes them.
//!
//! Owns that a change made here loses no change of a program. The caller owns the meaning of the words.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::maps::{MapData, MapType};
use aya::util::nr_cpus;

use crate::kernel::bpf::{SystemCallProgram, look_up_batch, update_batch};

/// Elements that are read or written at once.
const AT_ONCE: u32 = 4096;

/// An array or per-CPU array that is pinned. A position is that of a word among those of all elements.
pub(crate) struct Words {
    map: MapData,
    elements: u32,
    /// In one element.
    words: usize,
    /// Values that an element has.
    cpus: usize,
}

/// What is done to a word.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    /// A number is added; in a per-CPU array to the value of one CPU, whichever that is.
    Add,
    /// The word becomes a number, unless it is larger already.
    Raise,
}

/// Changes words of one array by instructions that nothing comes between, which a write by bpf(2) is not.
pub(crate) struct Changer {
    program: SystemCallProgram,
    words: usize,
}

impl Words {
    /// Opens a pin.
    pub(crate) fn open(pin: &Path) -> Result<Self> {
        let open = || -> Result<Self> {
            let map = MapData::from_pin(pin)?;
            let info = map.info()?;
            let bytes = info.value_size() as usize;
            ensure!(
                bytes.is_multiple_of(size_of::<u64>()),
                "its values of {bytes} bytes are not made of words"
            );
            let cpus = match info.map_type()? {
                MapType::PerCpuArray => {
                    nr_cpus().map_err(|(path, error)| anyhow!("counting the CPUs in {path}: {error}"))?
                }
                _ => 1,
            };
            Ok(Self { elements: info.max_entries(), words: bytes / size_of::<u64>(), cpus, map })
        };
        open().with_context(|| format!("opening the map {}", pin.display()))
    }

    /// All words; of a per-CPU array the sums over all CPUs.
    pub(crate) fn read(&self) -> Result<Vec<u64>> {
        let mut all = Vec::with_capacity(self.elements as usize * self.words);
        let mut first = 0;
        while first < self.elements {
            let count = AT_ONCE.min(self.elements - first);
            let mut values = vec![0_u64; count as usize * self.words * self.cpus];
            look_up_batch(&self.map, first, count, values.as_mut_ptr())?;
            for element in values.chunks(self.words * self.cpus) {
                let sum = |word: usize| {
                    element
                        .iter()
                        .skip(word)
                        .step_by(self.words)
                        .fold(0_u64, |sum, value| sum.wrapping_add(*value))
                };
                all.extend((0..self.words).map(sum));
            }
            first += count;
        }
        Ok(all)
    }

    /// Writes all words of an array that no program writes.
    pub(crate) fn write(&mut self, words: &[u64]) -> Result<()> {
        let fits = self.elements as usize * self.words;
        ensure!(words.len() == fits && self.cpus == 1, "{} words for an array of {fits}", words.len());
        let mut keys: Vec<u32> = (0..self.elements).collect();
        update_batch(&self.map, &mut keys, words.as_ptr())
    }

    /// What changes its words in this way.
    pub(crate) fn changer(&self, change: Change) -> Result<Changer> {
        let map = self.map.fd().as_fd().as_raw_fd() as u64;
        let last = (self.words * size_of::<u64>() - size_of::<u64>()) as u64;
        // The context is an element's index, the offset of a word in it, and a number.
        let mut program = vec![
            0x16bf,                   // r6 = r1, the address of the context
            0x6179,                   // r1 = *(u64 *)(r6 + 0)
            0xfffc_1a63,              // *(u32 *)(r10 - 4) = r1
            0xa2bf,                   // r2 = r10
            0xffff_fffc_0000_0207,    // r2 += -4
            0x1118 | map << 32,       // r1 = the map
            0,                        // (second half of that)
            0x1_0000_0085,            // r0 = bpf_map_lookup_elem(r1, r2)
            0,                        // if r0 == 0 go to the end, whose distance is filled in below
            0x0008_6179,              // r1 = *(u64 *)(r6 + 8)
            0xffff_fff8_0000_0157,    // r1 &= -8
            0x0000_0125 | last << 32, // if r1 > last go to the end
            0x100f,                   // r0 += r1
            0x07bf,                   // r7 = r0
            0x0010_6279,              // r2 = *(u64 *)(r6 + 16)
        ];
        match change {
            Change::Add => program.push(0x27db), // lock *(u64 *)(r7 + 0) += r2
            Change::Raise => program.extend([
                0x7079,         // r0 = *(u64 *)(r7 + 0)
                0x0005_203d,    // if r0 >= r2 go to the success
                0x03bf,         // r3 = r0
                0xf1_0000_27db, // r0 = cmpxchg(r7 + 0, r0, r2)
                0x0002_301d,    // if r0 == r3 go to the success
                0x1_0000_00b7,  // r0 = 1, to be tried again
                0x0095,         // return r0
            ]),
        }
        program.extend([
            0x00b7,        // success: r0 = 0
            0x0095,        // return r0
            0x2_0000_00b7, // the end: r0 = 2, there is no such word
            0x0095,        // return r0
        ]);
        let end = program.len() as u64 - 2;
        program[8] = 0x0015 | (end - 9) << 16;
        program[11] |= (end - 12) << 16;
        Ok(Changer { program: SystemCallProgram::load(&program)?, words: self.words })
    }
}

impl Changer {
    /// Changes the word at this position.
    pub(crate) fn apply(&self, position: usize, number: u64) -> Result<()> {
        let element = (position / self.words) as u64;
        let offset = (position % self.words * size_of::<u64>()) as u64;
        loop {
            match self.program.run(&mut [element, offset, number])? {
                0 => return Ok(()),
                1 => {}
                _ => bail!("there is no word {position}"),
            }
        }
    }
}
