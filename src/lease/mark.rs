//! What `TARGET.lease` says of the target alone: its lease, or the mark of a store's leases.
//!
//! ```json
//! {"version":1,"fence":4711}
//! ```
//!
//! The mark is the greatest token under which the target was written. It is there in place of a lease: who writes under a
//! store's lease and who takes one here would not know of each other.

use std::path::Path;

use serde_json::{Map, Value};

use super::record::{LeaseRecord, MAX_TOKEN, Parsed, VERSION, ensure_no_other, ensure_version, number};
use crate::error::{Error, ErrorKind};
use crate::shown::shown;

/// The field that only the mark has.
const FENCE: &str = "fence";

#[derive(Clone, Debug, PartialEq, Eq)]
// One at a time.
#[allow(clippy::large_enum_variant)]
pub(super) enum TargetRecord {
    Lease(LeaseRecord),
    /// The greatest token of a store's lease that has written the target.
    Mark(u64),
}

impl TargetRecord {
    pub(super) fn of_fields(mut fields: Map<String, Value>) -> Parsed<TargetRecord> {
        if !fields.contains_key(FENCE) {
            return LeaseRecord::of_fields(fields).map(TargetRecord::Lease);
        }
        ensure_version(&mut fields)?;
        let token = number(&mut fields, FENCE)?;
        ensure_no_other(&fields)?;
        if token > MAX_TOKEN { Err(format!("\"{FENCE}\" is out of range")) } else { Ok(TargetRecord::Mark(token)) }
    }

    /// The text of the file. `None`: the clock shows a year that the format does not have.
    pub(super) fn to_json(&self) -> Option<String> {
        match self {
            TargetRecord::Lease(lease) => lease.to_json(),
            TargetRecord::Mark(token) => Some(mark_text(*token)),
        }
    }

    pub(super) fn lease(self) -> Option<LeaseRecord> {
        match self {
            TargetRecord::Lease(lease) => Some(lease),
            TargetRecord::Mark(_) => None,
        }
    }
}

pub(super) fn mark_text(token: u64) -> String {
    format!("{{\"version\":{VERSION},\"{FENCE}\":{token}}}\n")
}

/// Refuses a lease here of a target that is written under those of a store.
pub(super) fn kept_by_store(target: &Path, token: u64) -> Error {
    let reason = format!("It is written under leases that a store keeps (greatest token {token})");
    Error::new(ErrorKind::Usage, reason).on(target).with_hint(format!(
        "name the store: --store or AWRITE_STORE; to have leases here again: awrite-lock --break {}, without a store",
        shown(target)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::record::object;
    use super::*;

    fn parse(text: &str) -> Parsed<TargetRecord> {
        TargetRecord::of_fields(object(text.as_bytes())?)
    }

    #[test]
    fn read_as_written() {
        for token in [0, 1, MAX_TOKEN] {
            assert_eq!(parse(&mark_text(token)), Ok(TargetRecord::Mark(token)));
        }
        assert_eq!(parse(r#"{"fence":7}"#), Ok(TargetRecord::Mark(7)), "the version may be left out");
        for bad in [
            r#"{"fence":-1}"#,
            r#"{"fence":"7"}"#,
            r#"{"fence":9007199254740993}"#,
            r#"{"fence":7,"owner":"a"}"#,
            r#"{"version":2,"fence":7}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
