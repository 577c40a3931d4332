//! `seaworthy audit verify`

use std::path::{Path, PathBuf};

use clap::Args;
use seaworthy_store::ledger::{
    Fault, PublicKey, Sound, Verdict, VerifyError, VerifyOptions, read_public_key, verify,
    verify_export,
};
use serde::Serialize;

use super::super::{Answer, Surroundings};
use super::Place;
use crate::exit::{Exit, Failure};

/// Recompute the whole log and hold it against its signed checkpoints
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy audit verify
  seaworthy audit verify --checkpoints /mnt/elsewhere/audit.checkpoints
  seaworthy audit verify --public-key audit.pub --json
  seaworthy audit verify audit.jsonl --checkpoints audit.checkpoints

It exits with 0 where the log is sound, with 1 where it is not, naming the first bad leaf, and with
65 where there is no log to judge. It changes nothing, beside a gateway that runs or without one.
Checkpoints that were kept where nobody who can write the data folder can write are what shows a
log that was written anew.")]
pub(crate) struct Verify {
    /// An export to verify in place of the data folder
    #[arg(value_name = "FILE", requires = "checkpoints")]
    export: Option<PathBuf>,
    /// Checkpoints that were kept elsewhere; else the data folder's audit.checkpoints
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// The key that must have signed, or a file with it such as audit.pub; else the one that the
    /// log names
    #[arg(long, value_name = "KEY|FILE")]
    public_key: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Said<'a> {
    sound: bool,
    log: Option<&'a Sound>,
    fault: Option<&'a Fault>,
}

impl Verify {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let public_key = self.public_key.as_deref().map(public_key).transpose()?;
        let verdict = match (self.export, self.checkpoints) {
            (Some(export), Some(checkpoints)) => verify_export(&export, &checkpoints, public_key),
            (_, checkpoints) => {
                let dir = self.place.dir(surroundings)?;
                verify(&dir, &VerifyOptions { checkpoints, public_key })
            }
        };
        let verdict = verdict.map_err(|error| {
            let exit = match error {
                VerifyError::NotALedger { .. } => Exit::BadData,
                VerifyError::Unreadable { .. } | VerifyError::Store(_) => Exit::Unavailable,
            };
            Failure::new(exit, error.to_string())
        })?;
        Ok(answer(&verdict, self.json))
    }
}

/// A key as it is written, or the file that holds it.
fn public_key(text: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    if !path.exists() {
        let what = format!("--public-key: there is no file {text}, and it is no key either");
        return Err(Failure::new(Exit::Usage, what));
    }
    read_public_key(path).map_err(|error| Failure::new(Exit::BadData, error.to_string()))
}

fn answer(verdict: &Verdict, json: bool) -> Answer {
    let (exit, said) = match verdict {
        Verdict::Sound(sound) => (Exit::Ok, Said { sound: true, log: Some(sound), fault: None }),
        Verdict::Broken(fault) => (Exit::No, Said { sound: false, log: None, fault: Some(fault) }),
    };
    if json {
        return Answer::json(&said, exit);
    }
    let text = match verdict {
        Verdict::Sound(sound) => sound_text(sound),
        Verdict::Broken(fault) => broken_text(fault),
    };
    Answer::new(text, exit)
}

fn sound_text(sound: &Sound) -> String {
    let Sound { log, public_key, leaves, root, checkpoints, signed, file_lacks } = sound;
    let mut lines = vec![
        format!("the log {log} is sound: {leaves} leaves, {checkpoints} checkpoints"),
        format!("root        {root}"),
        format!("public key  {public_key}"),
    ];
    if signed < leaves {
        let behind = leaves - signed;
        lines.push(format!("not signed  the newest {behind}: the next checkpoint counts them"));
    }
    if *file_lacks > 0 {
        lines.push(format!(
            "the file    lacks the newest {file_lacks} until the gateway's next start"
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn broken_text(fault: &Fault) -> String {
    let Fault { leaf, leaf_last, what } = fault;
    match (leaf, leaf_last) {
        (Some(first), Some(last)) if first < last => {
            format!("not sound: of leaves {first} to {last} one is the first bad one: {what}\n")
        }
        (Some(leaf), _) => format!("not sound: leaf {leaf} {what}\n"),
        (None, _) => format!("not sound: {what}\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{log, place, surroundings};
    use super::*;

    fn verify_with(dir: &Path, edit: impl FnOnce(&mut Verify)) -> Result<Answer, Failure> {
        let mut verify = Verify {
            export: None,
            checkpoints: None,
            public_key: None,
            place: place(dir),
            json: false,
        };
        edit(&mut verify);
        verify.run(surroundings())
    }

    #[test]
    fn a_sound_log_and_a_broken_one_have_their_codes() {
        let dir = log();
        let answer = verify_with(dir.path(), |_| {}).unwrap();
        assert_eq!(answer.exit, Exit::Ok);
        assert!(answer.text.contains("is sound: 3 leaves, 2 checkpoints\n"), "{}", answer.text);
        let key = dir.path().join("audit.pub");
        for named in [key.display().to_string(), std::fs::read_to_string(&key).unwrap()] {
            let answer = verify_with(dir.path(), |verify| verify.public_key = Some(named)).unwrap();
            assert_eq!(answer.exit, Exit::Ok);
        }
        let other = std::fs::read_to_string(log().path().join("audit.pub")).unwrap();
        let answer = verify_with(dir.path(), |verify| {
            verify.public_key = Some(other);
            verify.json = true;
        })
        .unwrap();
        let said: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.exit, &said["fault"]["leaf"]), (Exit::No, &json!(0)));

        let nowhere = |verify: &mut Verify| verify.public_key = Some("nowhere".to_owned());
        assert_eq!(verify_with(dir.path(), nowhere).unwrap_err().exit, Exit::Usage);
        // Whoever closed it last may not have emptied this, and then it is read in place of it.
        let wal = dir.path().join("ledger.db-wal");
        if wal.exists() {
            std::fs::remove_file(wal).unwrap();
        }
        std::fs::write(dir.path().join("ledger.db"), [b'x'; 4096]).unwrap();
        let failure = verify_with(dir.path(), |_| {}).unwrap_err();
        assert_eq!(failure.exit, Exit::BadData);
    }

    #[test]
    fn faults_are_said_in_one_line() {
        let fault = |leaf, leaf_last| {
            let what = "is missing".to_owned();
            answer(&Verdict::Broken(Fault { leaf, leaf_last, what }), false).text
        };
        assert_eq!(fault(Some(7), None), "not sound: leaf 7 is missing\n");
        assert_eq!(fault(Some(7), Some(7)), "not sound: leaf 7 is missing\n");
        assert_eq!(fault(None, None), "not sound: is missing\n");
        let text = "not sound: of leaves 7 to 9 one is the first bad one: is missing\n";
        assert_eq!(fault(Some(7), Some(9)), text);
    }
}
