//! With the feature `capi`: makes the C header in OUT_DIR. A build must not write into the source tree. A test compares
//! the header with `include/awrite.h`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "capi")]
    capi::build()?;
    Ok(())
}

#[cfg(feature = "capi")]
mod capi {
    use std::error::Error;
    use std::path::Path;
    use std::{env, fs};

    /// The modules that export something, in the order of the header. Each uses what the modules before it declare.
    const SECTIONS: [&str; 11] =
        ["status", "memory", "notice", "lock", "write", "writer", "set", "read", "lease", "holds", "housekeep"];

    /// C++ does not or two values of an enum to one of that enum by itself.
    const OR_FLAGS: &str = "\
#ifdef __cplusplus
} /* extern \"C\" */

/* In C++, flags of one family are or-ed to flags of that family. */
#define AWRITE_OR_FLAGS_(flags) \\
    inline flags operator|(flags a, flags b) \\
    { \\
        return static_cast<flags>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b)); \\
    } \\
    inline flags &operator|=(flags &a, flags b) \\
    { \\
        return a = a | b; \\
    }
";

    pub(crate) fn build() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-changed=cbindgen.toml");
        println!("cargo::rerun-if-changed=src/capi");
        fs::write(Path::new(&env::var("OUT_DIR")?).join("awrite.h"), header()?)?;
        Ok(())
    }

    /// cbindgen orders by kind: all constants, all types, all functions. So this runs it for each module alone. The
    /// module's own comment becomes the title of its part.
    fn header() -> Result<String, Box<dyn Error>> {
        let mut text = fs::read_to_string("src/capi/preamble.h")?;
        for part in ["MAJOR", "MINOR", "PATCH"] {
            text = text.replace(&format!("@{part}@"), &env::var(format!("CARGO_PKG_VERSION_{part}"))?);
        }
        let config = cbindgen::Config::from_file("cbindgen.toml")?;
        let mut flags = String::new();
        for section in SECTIONS {
            let path = format!("src/capi/{section}.rs");
            text.push_str(&title(&fs::read_to_string(&path)?));
            let bindings = cbindgen::Builder::new().with_config(config.clone()).with_src(&path).generate()?;
            let mut declarations = Vec::new();
            bindings.write(&mut declarations);
            let declarations = String::from_utf8(declarations)?;
            let families = families(&declarations);
            for family in families.iter().filter(|family| family.name.ends_with("_flags")) {
                flags += &format!("AWRITE_OR_FLAGS_({})\n", family.name);
            }
            text.push_str(&shorten(&in_c(declarations.trim(), &families)));
        }
        Ok(format!("{text}\n{OR_FLAGS}{flags}#undef AWRITE_OR_FLAGS_\n#endif\n\n#endif /* AWRITE_H */\n"))
    }

    /// An enum for C. In Rust it is an alias of `u32` with constants, because C may pass any number.
    struct Family<'a> {
        name: &'a str,
        /// What the names of its constants begin with.
        prefix: String,
        /// The comment, the name and the value of each.
        constants: Vec<(&'a str, &'a str, &'a str)>,
    }

    /// The constants of cbindgen's, under the aliases that they belong to: AWRITE_LOCK_SHARED to awrite_lock_flags.
    fn families(declarations: &str) -> Vec<Family<'_>> {
        let mut families = Vec::new();
        let typedefs = declarations.lines().filter_map(|line| line.strip_prefix("typedef uint32_t "));
        for name in typedefs.filter_map(|line| line.strip_suffix(';')) {
            let stem = ["_flags", "_kind", "_state"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            families.push(Family { name, prefix: format!("{}_", stem.to_uppercase()), constants: Vec::new() });
        }
        for block in declarations.split("\n\n") {
            let Some((comment, constant)) = block.trim().rsplit_once("\n#define ") else { continue };
            let Some((name, value)) = constant.split_once(' ') else { continue };
            if let Some(family) = families.iter_mut().find(|family| name.starts_with(&family.prefix)) {
                family.constants.push((comment, name, value));
            }
        }
        families
    }

    /// What cbindgen has made, with the enums, and an initialiser behind each struct that the caller fills in. C89 allows
    /// no comma at the end of an enum.
    fn in_c(declarations: &str, families: &[Family<'_>]) -> String {
        let mut blocks = Vec::new();
        for block in declarations.split("\n\n").map(str::trim) {
            let last = block.lines().last().unwrap_or_default();
            let constant = last.strip_prefix("#define ").and_then(|line| line.split(' ').next()).unwrap_or_default();
            let alias = families.iter().find(|family| last == format!("typedef uint32_t {};", family.name));
            if let Some(family) = alias {
                let comment = block.strip_suffix(last).unwrap_or_default();
                blocks.push(format!("{comment}{}", enumeration(family)));
            } else if !families.iter().any(|family| family.constants.iter().any(|(_, name, _)| *name == constant)) {
                let text = block.replace("typedef enum awrite_status {", "typedef enum awrite_status AWRITE_UINT32_ {");
                // Every type has a name without its tag, too.
                let tag = if block.contains("typedef struct ") { "const struct " } else { "struct " };
                let text = text.replace(tag, tag.trim_end_matches("struct "));
                blocks.push(text.replace(",\n} ", "\n} "));
                blocks.extend(initialiser(block, families));
            }
        }
        blocks.join("\n\n")
    }

    fn enumeration(family: &Family<'_>) -> String {
        let mut members = Vec::new();
        for (comment, name, value) in &family.constants {
            let comment: String = comment.lines().map(|line| format!("    {line}\n")).collect();
            members.push(format!("{comment}    {name} = {value}"));
        }
        format!("typedef enum {0} AWRITE_UINT32_ {{\n{1}\n}} {0};", family.name, members.join(",\n"))
    }

    /// A macro with the size and the defaults of a struct. It names each member's value, so that no compiler warns.
    fn initialiser(block: &str, families: &[Family<'_>]) -> Option<String> {
        let name = block.lines().find_map(|line| line.strip_prefix("typedef struct ")?.strip_suffix(" {"))?;
        let size = format!("sizeof({name})");
        if !block.contains(&size) {
            return None;
        }
        let mut values = vec![size];
        for member in block.lines().filter_map(|line| line.trim().strip_suffix(';')).skip(1) {
            let kind = member.split(' ').next().unwrap_or_default();
            let zero = families.iter().filter(|family| family.name == kind).flat_map(|family| &family.constants);
            let zero = zero.filter(|(_, _, value)| *value == "0").map(|(_, name, _)| *name).next();
            values.push(match zero {
                Some(zero) => zero.to_owned(),
                None if member.starts_with('}') => break,
                None if member.ends_with(']') => "\"\"".to_owned(),
                None if member.contains('*') || kind.ends_with("_fn") => "NULL".to_owned(),
                None => "0".to_owned(),
            });
        }
        let mut text = format!("/** What {name} begins as: with its size, and all else default. */\n");
        text += &format!("#define {}_INIT \\\n    {{", name.to_uppercase());
        let mut column = 5;
        for (number, value) in values.iter().enumerate() {
            if number > 0 {
                let next_line = column + value.len() > 100;
                text.push_str(if next_line { ", \\\n     " } else { ", " });
                column = if next_line { 5 } else { column + 2 };
            }
            text.push_str(value);
            column += value.len();
        }
        Some(text + "}")
    }

    fn title(source: &str) -> String {
        let mut lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
        let name = lines.next().unwrap_or_default();
        let mut text = format!("\n/* === {name} {}\n", "=".repeat(110_usize.saturating_sub(name.len())));
        for line in lines {
            text.push_str(format!(" * {line}").trim_end());
            text.push('\n');
        }
        text + " */\n\n"
    }

    /// Puts comments of one line on one line, where they fit.
    fn shorten(declarations: &str) -> String {
        let mut text = String::new();
        let mut lines = declarations.lines().peekable();
        while let Some(line) = lines.next() {
            let mut ahead = lines.clone();
            let short = match (line.trim(), ahead.next(), ahead.next().map(str::trim)) {
                ("/**", Some(said), Some("*/")) => format!("{line} {} */", said.trim().trim_start_matches("* ")),
                _ => String::new(),
            };
            if (1..=120).contains(&short.len()) {
                text.push_str(&short);
                lines = ahead;
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        text
    }
}
