//! The stack of the programs on Linux 6.1, counted as its verifier does.
//!
//! Owns the stack of each function of an object, its calls, and the longest chain from an entry point. Newer kernels round to 16 bytes for
//! compiled programs (6.2 and newer), so a program that fits 6.1 fits them, but not the other way round, and the kernel of the machine does not
//! say. `verifier.rs` owns the bound.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// Bytes that all functions on the way down may take together (`MAX_BPF_STACK` in include/linux/filter.h).
pub(crate) const LIMIT: u32 = 512;
/// Functions that may be on the way down, the entry point among them (`MAX_CALL_FRAMES` in include/linux/bpf_verifier.h).
const FRAMES: usize = 8;
/// What a function takes is rounded up to this, and is never less (`check_max_stack_depth` in kernel/bpf/verifier.c).
const GRAIN: u32 = 32;

/// Bytes of an instruction.
const INSTRUCTION: usize = 8;
/// The register that points behind a function's stack.
const FRAME_POINTER: u8 = 10;

/// What the verifier counts of a function.
#[derive(Debug, Default, PartialEq, Eq)]
struct Function {
    /// Bytes below the frame pointer that it reaches.
    depth: u32,
    /// Functions that it calls.
    calls: Vec<String>,
}

/// The functions of an object.
pub(crate) struct Functions(BTreeMap<String, Function>);

impl Functions {
    /// Reads an object for BPF.
    ///
    /// # Errors
    /// It is none, or has a call to something that is no function.
    pub(crate) fn of(elf: &[u8]) -> Result<Self> {
        let file = object::File::parse(elf).context("reading the object")?;
        let mut functions = BTreeMap::new();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
            let name = symbol.name().context("a function's name")?.to_owned();
            let section =
                file.section_by_index(symbol.section_index().context("a function without code")?)?;
            let code = section
                .data_range(symbol.address(), symbol.size())?
                .with_context(|| format!("{name} is longer than its section"))?;
            let mut calls = Vec::new();
            for (at, relocation) in section.relocations() {
                let Some(within) = at.checked_sub(symbol.address()).filter(|at| *at < symbol.size()) else {
                    continue;
                };
                let instruction = code.chunks_exact(INSTRUCTION).nth(usize::try_from(within)? / INSTRUCTION);
                if instruction.is_none_or(|instruction| !is_call(instruction)) {
                    continue;
                }
                let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                let called = file.symbol_by_index(index)?;
                ensure!(
                    called.kind() == SymbolKind::Text,
                    "{name} has a call that names no function, but {:?}",
                    called.name()
                );
                calls.push(called.name()?.to_owned());
            }
            functions.insert(name, Function { depth: depth(code), calls });
        }
        Ok(Self(functions))
    }

    /// The most that the functions on a way down from `entry` take together.
    ///
    /// # Errors
    /// There is a way with too many functions, or with one that the object does not have.
    pub(crate) fn deepest(&self, entry: &str) -> Result<u32> {
        self.down(entry, &mut Vec::new())
    }

    fn down<'a>(&'a self, name: &'a str, way: &mut Vec<&'a str>) -> Result<u32> {
        let function = self.0.get(name).with_context(|| format!("the object has no function {name}"))?;
        way.push(name);
        ensure!(way.len() <= FRAMES, "more than {FRAMES} functions call each other: {}", way.join(", "));
        let mut below = 0;
        for called in &function.calls {
            below = below.max(self.down(called, way)?);
        }
        way.pop();
        Ok(function.depth.max(1).next_multiple_of(GRAIN) + below)
    }
}

/// True for a call to a function of the program (`BPF_PSEUDO_CALL`).
fn is_call(instruction: &[u8]) -> bool {
    instruction[0] == 0x85 && instruction[1] >> 4 == 1
}

/// Bytes below the frame pointer that a function reaches: by an access, or by a pointer that it makes.
fn depth(code: &[u8]) -> u32 {
    /// Classes of instructions (Documentation/bpf/standardization/instruction-set.rst).
    const LDX: u8 = 1;
    const ST: u8 = 2;
    const STX: u8 = 3;
    const JMP: u8 = 5;
    const JMP32: u8 = 6;
    /// `dst = src` and `dst += imm`, of 64 bits.
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;
    let mut lowest = 0;
    // Which registers point into the stack, and where.
    let mut pointers: [Option<i64>; 16] = [None; 16];
    pointers[usize::from(FRAME_POINTER)] = Some(0);
    let mut instructions = code.chunks_exact(INSTRUCTION);
    while let Some(&[opcode, registers, low, high, a, b, c, d]) = instructions.next() {
        let (to, from) = (usize::from(registers & 15), usize::from(registers >> 4));
        let offset = i64::from(i16::from_le_bytes([low, high]));
        let immediate = i64::from(i32::from_le_bytes([a, b, c, d]));
        let reached = match opcode & 7 {
            LDX => pointers[from].map(|at| at + offset),
            ST | STX => pointers[to].map(|at| at + offset),
            _ if opcode == ADD => pointers[to].map(|at| at + immediate),
            _ => None,
        };
        lowest = reached.map_or(lowest, |at| at.min(lowest));
        match opcode & 7 {
            ST | STX | JMP | JMP32 => {}
            _ if opcode == MOVE => pointers[to] = pointers[from],
            _ if opcode == ADD => pointers[to] = reached,
            _ => pointers[to] = None,
        }
        if opcode == 0x18 {
            // The other half of a constant of 64 bits.
            let _half = instructions.next();
        }
    }
    u32::try_from(-lowest).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(list: &[(&str, u32, &[&str])]) -> Functions {
        let of = |(name, depth, calls): &(&str, u32, &[&str])| {
            (
                (*name).to_owned(),
                Function { depth: *depth, calls: calls.iter().map(|c| (*c).to_owned()).collect() },
            )
        };
        Functions(list.iter().map(of).collect())
    }

    #[test]
    fn each_function_is_rounded_up_to_32_bytes_and_the_deepest_way_counts() {
        let functions = functions(&[
            ("main", 216, &["leaf", "policy"]),
            ("policy", 192, &["longest", "leaf"]),
            ("longest", 80, &[]),
            ("leaf", 0, &[]),
        ]);
        for (entry, bytes) in [("leaf", 32), ("longest", 96), ("policy", 192 + 96), ("main", 224 + 192 + 96)]
        {
            assert_eq!(functions.deepest(entry).expect("a way"), bytes, "{entry}");
        }
    }

    #[test]
    fn eight_functions_may_call_each_other_and_nine_may_not() {
        let names: Vec<_> = (0..9).map(|n| format!("f{n}")).collect();
        let chain = |length: usize| {
            let link = |n: usize| {
                let calls = if n + 1 < length { vec![names[n + 1].clone()] } else { Vec::new() };
                (names[n].clone(), Function { depth: 8, calls })
            };
            Functions((0..length).map(link).collect())
        };
        assert_eq!(chain(8).deepest("f0").expect("a way"), 8 * 32);
        let error = chain(9).deepest("f0").expect_err("too many");
        assert!(error.to_string().contains("f0, f1"), "{error}");
        assert!(functions(&[("main", 0, &["none"])]).deepest("main").is_err());
    }

    #[test]
    fn a_function_reaches_as_far_as_its_accesses_and_the_pointers_that_it_makes() {
        let code = |instructions: &[[u8; 8]]| depth(&instructions.concat());
        let store = |offset: i16| {
            let [low, high] = offset.to_le_bytes();
            [0x7b, 0x1a, low, high, 0, 0, 0, 0]
        };
        // r2 = r10; r2 += -48; then *(r2 - 8) = r1.
        let copy = [0xbf, 0xa2, 0, 0, 0, 0, 0, 0];
        let add = [0x07, 0x02, 0, 0, 0xd0, 0xff, 0xff, 0xff];
        let beyond = [0x7b, 0x12, 0xf8, 0xff, 0, 0, 0, 0];
        let other = [0xbf, 0x12, 0, 0, 0, 0, 0, 0];
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[store(-8), store(-24), store(-16)]), 24);
        assert_eq!(code(&[copy, add]), 48);
        assert_eq!(code(&[copy, add, beyond]), 56);
        assert_eq!(code(&[copy, other, add]), 0, "it is no pointer into the stack any more");
        // A constant of 64 bits, whose second half looks like a store.
        assert_eq!(code(&[[0x18, 0x01, 0, 0, 0, 0, 0, 0], store(-64)]), 0);
    }
}
