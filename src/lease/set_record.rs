//! What a set of files that are replaced together writes down: a record for each target, in the place of its lease, and
//! one journal.
//!
//! ```json
//! {"version":1,"set":"0123456789abcdef","journal":"../etc/.awrite-set-0123456789abcdef","journal_dir":4711,
//!  "backup":[".backup",true],"prior":{…}}
//! ```
//!
//! `journal` is relative to the target's directory, and `journal_dir` is the inode number of the journal's. In `backup`
//! stand what the backup's name has behind the target's, and whether an earlier backup of that name is replaced. `prior` is
//! the lease that was there before, or the mark of a store's leases. `backup` and `prior` may be missing. Names are any bytes: all but printable ASCII, and
//! `%`, are written `%XX`. The record names no file of its target's directory: those names follow from the target's and from
//! the set. So targets that are alike can have one record, by links to it.
//!
//! ```json
//! {"version":1,"set":"0123456789abcdef","records":["f.lease","../b/g.lease"]}
//! ```
//!
//! The journal only says where the records are, relative to its own directory. It says nothing of what is to be done.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::mark::TargetRecord;
use super::percent;
use super::record::{Parsed, SET, VERSION, ensure_no_other, ensure_version, number, object, string};
use crate::names::{is_nonce, journal_name};
use crate::target::Target;

/// What the record of a target says about the set that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetRecord {
    pub(crate) nonce: String,
    /// The directory of the journal, relative to the target's.
    pub(crate) journal_dir: PathBuf,
    pub(crate) journal_ino: u64,
    pub(crate) backup: Option<SetBackup>,
    pub(super) prior: Option<TargetRecord>,
}

/// The backup of a target in a set, in the target's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetBackup {
    /// What its name has behind the target's.
    pub(crate) tail: OsString,
    /// An earlier backup may have the name.
    pub(crate) replaces: bool,
}

impl SetBackup {
    /// Its name.
    pub(crate) fn name_of(&self, target: &Target) -> OsString {
        let mut name = target.name.clone();
        name.push(&self.tail);
        name
    }
}

impl SetRecord {
    /// The record of a target, without the lease that is there until now.
    pub(crate) fn new(nonce: &str, (journal_dir, journal_ino): (PathBuf, u64), backup: Option<SetBackup>) -> SetRecord {
        SetRecord { nonce: nonce.to_owned(), journal_dir, journal_ino, backup, prior: None }
    }

    /// The text of the file. `None`: the lease that was there has a time in a year that the format does not have.
    pub(super) fn to_json(&self) -> Option<String> {
        let journal = self.journal_dir.join(journal_name(&self.nonce));
        let mut text = format!(
            "{{\"version\":{VERSION},\"{SET}\":\"{}\",\"journal\":{},\"journal_dir\":{}",
            self.nonce,
            quoted(journal.as_os_str()),
            self.journal_ino,
        );
        if let Some(SetBackup { tail, replaces }) = &self.backup {
            text.push_str(&format!(",\"backup\":[{},{replaces}]", quoted(tail)));
        }
        if let Some(prior) = &self.prior {
            text.push_str(&format!(",\"prior\":{}", prior.to_json()?.trim_end()));
        }
        text.push_str("}\n");
        Some(text)
    }

    pub(super) fn of_fields(mut fields: Map<String, Value>) -> Parsed<SetRecord> {
        let fields = &mut fields;
        ensure_version(fields)?;
        let nonce = nonce(fields)?;
        let journal = PathBuf::from(name(&string(fields, "journal")?)?);
        if journal.file_name() != Some(&journal_name(&nonce)) {
            return Err("\"journal\" is not the journal of this set".to_owned());
        }
        let record = SetRecord {
            journal_dir: journal.parent().unwrap_or(Path::new("")).to_owned(),
            journal_ino: number(fields, "journal_dir")?,
            backup: backup(fields)?,
            prior: match fields.remove("prior") {
                None => None,
                Some(Value::Object(prior)) => Some(TargetRecord::of_fields(prior)?),
                Some(_) => return Err("\"prior\" is not a record".to_owned()),
            },
            nonce,
        };
        ensure_no_other(fields)?;
        Ok(record)
    }
}

/// The text of the journal of the set with `nonce`; `records` are relative to its directory.
pub(super) fn journal_text(nonce: &str, records: &[PathBuf]) -> String {
    let records: Vec<String> = records.iter().map(|path| quoted(path.as_os_str())).collect();
    format!("{{\"version\":{VERSION},\"{SET}\":\"{nonce}\",\"records\":[{}]}}\n", records.join(","))
}

/// Where the records of a set are, by the text of its journal.
pub(super) fn records_of(text: &[u8], nonce: &str) -> Parsed<Vec<PathBuf>> {
    let mut fields = object(text)?;
    ensure_version(&mut fields)?;
    if self::nonce(&mut fields)? != nonce {
        return Err("it is the journal of another set".to_owned());
    }
    let Some(Value::Array(records)) = fields.remove("records") else {
        return Err("it has no list \"records\"".to_owned());
    };
    ensure_no_other(&fields)?;
    let path = |value: &Value| name(value.as_str().ok_or("\"records\" has more than names in it")?).map(PathBuf::from);
    records.iter().map(path).collect()
}

fn nonce(fields: &mut Map<String, Value>) -> Parsed<String> {
    let nonce = string(fields, SET)?;
    if is_nonce(nonce.as_bytes()) { Ok(nonce) } else { Err(format!("\"{SET}\" is not a nonce")) }
}

fn backup(fields: &mut Map<String, Value>) -> Parsed<Option<SetBackup>> {
    let Some(value) = fields.remove("backup") else { return Ok(None) };
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(tail), Value::Bool(replaces)]) => match name(tail)? {
            tail if tail.as_bytes().contains(&b'/') => Err("\"backup\" leads to another directory".to_owned()),
            tail => Ok(Some(SetBackup { tail, replaces: *replaces })),
        },
        _ => Err("\"backup\" is not the end of a name and whether to replace".to_owned()),
    }
}

/// A JSON string.
fn quoted(name: &OsStr) -> String {
    format!("\"{}\"", percent::encoded(name.as_bytes(), b"\"\\"))
}

/// The bytes that are written so.
fn name(text: &str) -> Parsed<OsString> {
    percent::decoded(text).ok_or_else(|| "a name in it is not written as names are".to_owned())
}

/// What holds for any content of a file.
#[cfg(any(test, fuzzing))]
pub(super) fn any_set_record(bytes: &[u8]) {
    match object(bytes).and_then(SetRecord::of_fields) {
        Ok(record) => {
            let text = record.to_json().unwrap_or_default();
            assert_eq!(object(text.as_bytes()).and_then(SetRecord::of_fields), Ok(record), "{text}");
        }
        // It becomes part of a message.
        Err(why) => assert!(!why.contains(char::is_control), "{why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::fake::Fake;
    use super::super::record::LeaseRecord;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Parsed<SetRecord> {
        SetRecord::of_fields(object(text.as_bytes())?)
    }

    fn record() -> SetRecord {
        SetRecord {
            nonce: "0123456789abcdef".into(),
            journal_dir: "../a b".into(),
            journal_ino: 4711,
            backup: Some(SetBackup { tail: OsStr::from_bytes(b".\"\\%\xff").to_owned(), replaces: true }),
            prior: LeaseRecord::new("agent", std::time::Duration::from_secs(9), None, &Fake::new())
                .map(TargetRecord::Lease),
        }
    }

    proptest! {
        #[test]
        fn names_of_any_bytes(bytes in prop::collection::vec(1..=255_u8, 1..40)) {
            let quoted = quoted(OsStr::from_bytes(&bytes));
            let text: String = serde_json::from_str(&quoted).unwrap();
            prop_assert_eq!(name(&text).unwrap().into_vec(), bytes);
        }

        #[test]
        fn damaged_ones(cut: prop::sample::Index, with: u8) {
            let mut damaged = record().to_json().unwrap().into_bytes();
            let place = cut.index(damaged.len());
            damaged[place] = with;
            any_set_record(&damaged);
        }
    }

    #[test]
    fn read_as_written() {
        let mut record = record();
        let mut prior = Some(TargetRecord::Mark(7));
        for _ in 0..3 {
            let text = record.to_json().unwrap();
            assert_eq!(parse(&text), Ok(record.clone()), "{text}");
            (record.backup, record.prior, record.journal_dir) = (None, prior.take(), PathBuf::new());
        }
        let records = vec![PathBuf::from("f.lease"), PathBuf::from("../b/g.lease")];
        let text = journal_text(&record.nonce, &records);
        assert_eq!(text, "{\"version\":1,\"set\":\"0123456789abcdef\",\"records\":[\"f.lease\",\"../b/g.lease\"]}\n");
        assert_eq!(records_of(text.as_bytes(), &record.nonce), Ok(records));
        assert!(records_of(text.as_bytes(), "fedcba9876543210").is_err());
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let whole = record().to_json().unwrap();
        for (what, by) in [
            (r#""set":"0123456789abcdef""#, r#""set":"../123456789abcdef""#),
            (r#""set":"0123456789abcdef""#, r#""set":"fedcba9876543210""#),
            (r#""backup":["."#, r#""backup":["/../f"#),
            (r#""backup":["."#, r#""backup":["%2f"#),
            (r#""backup":["."#, r#""stage":["."#),
            (r#""backup":[".%22%5c%25%ff""#, r#""backup":["""#),
            (r#","prior":{"#, r#","more":1,"prior":{"#),
            (r#""owner":"agent""#, r#""owner":"""#),
            (r#"%ff"#, r#"%f"#),
            (r#"%ff"#, r#"%00"#),
        ] {
            let text = whole.replacen(what, by, 1);
            assert_ne!(text, whole, "{what}");
            assert!(parse(&text).is_err(), "{text}");
        }
    }
}
