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
    const SECTIONS: [&str; 8] = ["status", "notice", "lock", "write", "set", "lease", "holds", "housekeep"];

    const END: &str = "\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* AWRITE_H */\n";

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
        for section in SECTIONS {
            let path = format!("src/capi/{section}.rs");
            text.push_str(&title(&fs::read_to_string(&path)?));
            let bindings = cbindgen::Builder::new().with_config(config.clone()).with_src(&path).generate()?;
            let mut declarations = Vec::new();
            bindings.write(&mut declarations);
            text.push_str(&shorten(String::from_utf8(declarations)?.trim()));
        }
        Ok(text + END)
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
