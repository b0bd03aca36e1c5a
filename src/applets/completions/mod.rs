//! Completions for shells, generated from the tables of options. One script for each shell serves all applets, also
//! those that are called as `awrite WORD`.

mod bash;
mod fish;
mod naming;
mod zsh;

use super::values::Shell;

/// The text for `shell`.
pub(super) fn for_shell(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash::bash(),
        Shell::Zsh => zsh::zsh(),
        Shell::Fish => fish::fish(),
    }
}

#[cfg(test)]
mod tests {
    use super::bash::bash;
    use super::fish::fish;
    use super::naming::manuals;
    use super::zsh::zsh;
    use std::path::Path;

    /// `AWRITE_BLESS=1 cargo test` writes the files anew. (The published crate does not have them.)
    #[test]
    fn checked_in_files_are_what_is_generated() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg/completions");
        if !dir.exists() {
            return;
        }
        for (file, text) in [("awrite.bash", bash()), ("_awrite", zsh()), ("awrite.fish", fish())] {
            let path = dir.join(file);
            if std::env::var_os("AWRITE_BLESS").is_some_and(|bless| bless == "1") {
                std::fs::write(&path, &text).unwrap();
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(there == text, "{} is out of date: AWRITE_BLESS=1 cargo test --bin awrite", path.display());
        }
    }

    #[test]
    fn every_option_is_completed_everywhere() {
        let (bash, zsh, fish) = (bash(), zsh(), fish());
        for (_, manual) in manuals() {
            for row in &manual.specs {
                for long in row.long() {
                    assert!(bash.contains(&format!("--{long}")), "--{long}");
                    assert!(zsh.contains(&format!("--{long}")), "--{long}");
                    assert!(fish.contains(&format!(" -l {long} ")), "--{long}");
                }
            }
        }
    }

    #[test]
    fn bash_can_read_its_file() {
        // Where there is no bash there is nobody to complain either.
        let Ok(status) = std::process::Command::new("bash").args(["-n", "-c", &bash()]).status() else { return };
        assert!(status.success());
    }
}
