//! Names for the scripts.

use super::super::flags::Manual;
use super::super::table::{APPLETS, SECOND_NAME};

/// The word that chooses an applet after `awrite`, and the applet's description.
pub(super) fn manuals() -> Vec<(&'static str, Manual)> {
    APPLETS.iter().map(|applet| (applet.word, (applet.manual)())).collect()
}

/// The words that choose an applet after `awrite`.
pub(super) fn words() -> Vec<&'static str> {
    APPLETS.iter().map(|applet| applet.word).filter(|word| !word.is_empty()).collect()
}

/// The name of an applet's shell function.
pub(super) fn function(manual: &Manual) -> String {
    format!("_{}", manual.page.name.replace('-', "_"))
}

/// All names of this program.
pub(super) fn names() -> String {
    let mut names: Vec<&str> = APPLETS.iter().map(|applet| applet.name).collect();
    names.push(SECOND_NAME);
    names.join(" ")
}
