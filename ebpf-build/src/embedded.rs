//! The part of an object that is embedded in a program.
//!
//! Owns that it is all but the DWARF sections, which are five sixths of an object and are not read: BTF has the maps' types, and the lines for
//! the verifier's log.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The object without its DWARF sections, with every other section as it was.
pub(crate) fn without_dwarf(elf: &[u8]) -> Result<Vec<u8>> {
    let mut object = Builder::read(elf).context("understanding the object")?;
    let mut dwarf = Vec::new();
    for section in &mut object.sections {
        section.delete = section.name.starts_with(b".debug_");
        if section.delete {
            dwarf.push(section.id());
        }
    }
    for section in &mut object.sections {
        // Relocations of what is gone.
        section.delete |= section.sh_info_section.is_some_and(|relocated| dwarf.contains(&relocated));
    }
    object.delete_orphans();
    // The linker has the names of sections among those of symbols; here they are apart.
    if !object.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = object.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut smaller = Vec::new();
    object.write(&mut smaller).context("writing the object without its DWARF sections")?;
    Ok(smaller)
}

#[cfg(test)]
mod tests {
    use object::write::{Object, Relocation, SectionKind, StandardSection, Symbol, SymbolSection};
    use object::{
        Architecture, BinaryFormat, Endianness, Object as _, ObjectSection as _, RelocationFlags,
        SymbolFlags, SymbolKind, SymbolScope,
    };

    use super::without_dwarf;

    #[test]
    fn an_embedded_object_has_all_sections_but_dwarf() {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let code = object.section_id(StandardSection::Text);
        object.append_section_data(code, &[0x95, 0, 0, 0, 0, 0, 0, 0], 8);
        let function = object.add_symbol(Symbol {
            name: b"icmp".to_vec(),
            value: 0,
            size: 8,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(code),
            flags: SymbolFlags::None,
        });
        for name in [".BTF.ext", ".debug_info"] {
            let section = object.add_section(Vec::new(), name.into(), SectionKind::Debug);
            object.append_section_data(section, &[7; 64], 1);
            let flags = RelocationFlags::Elf { r_type: object::elf::R_BPF_64_64 };
            object
                .add_relocation(section, Relocation { offset: 8, symbol: function, addend: 0, flags })
                .expect("a relocation that BPF has");
        }
        let full = object.write().expect("an object");
        let embedded = without_dwarf(&full).expect("an object of the linker");

        let sections = |elf: &[u8]| -> Vec<(String, Vec<u8>, usize)> {
            let file = object::File::parse(elf).expect("an object");
            file.sections()
                .map(|section| {
                    (
                        section.name().expect("a name").to_owned(),
                        section.data().expect("what is in it").to_vec(),
                        section.relocations().count(),
                    )
                })
                .filter(|(name, _, _)| !["", ".symtab", ".strtab", ".shstrtab"].contains(&name.as_str()))
                .filter(|(name, _, _)| !name.starts_with(".rel"))
                .collect()
        };
        let mut wanted = sections(&full);
        wanted.retain(|(name, _, _)| name != ".debug_info");
        assert_eq!(sections(&embedded), wanted);
        assert!(wanted.contains(&(".BTF.ext".to_owned(), vec![7; 64], 1)));
        assert!(!embedded.windows(7).any(|bytes| bytes == b".debug_"), "not even its name");
    }
}
