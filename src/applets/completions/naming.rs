//! The names that stand in the scripts.

use super::super::flags::Manual;
use super::super::table::{APPLETS, SECOND_NAME};

/// What chooses an applet behind `awrite`, and what is to be said of it.
pub(super) fn manuals() -> Vec<(&'static str, Manual)> {
    APPLETS.iter().map(|applet| (applet.word, (applet.manual)())).collect()
}

/// What an applet's function is called.
pub(super) fn function(manual: &Manual) -> String {
    format!("_{}", manual.page.name.replace('-', "_"))
}

/// All that this program is called.
pub(super) fn names() -> String {
    let mut names: Vec<&str> = APPLETS.iter().map(|applet| applet.name).collect();
    names.push(SECOND_NAME);
    names.join(" ")
}
