//! Artifacts, snapshots and edges as tests make them and look at them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Machine, Ran};

/// Bytes that look random, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The error as a script sees it: JSON on stderr with that code and these words.
#[track_caller]
pub(crate) fn refused(ran: &Ran, code: i32, words: &[&str]) -> Value {
    let text = ran.fails(code);
    let object: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("no JSON on stderr: {text}"));
    assert_eq!(object["code"], code);
    let message = format!("{} {}", object["error"], object["hint"]);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message}");
    }
    object
}

/// A field that is text.
#[track_caller]
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

/// The same field of all of them.
#[track_caller]
pub(crate) fn texts(values: &[Value], field: &str) -> Vec<String> {
    values.iter().map(|value| text(value, field)).collect()
}

/// The answer of a daemon to a request that no command sends.
#[track_caller]
pub(crate) fn ask(machine: &Machine, method: &str, params: &Value) -> Value {
    ask_rows(machine, method, params).into_iter().next().expect("it answered nothing")
}

/// All rows of such an answer.
#[track_caller]
pub(crate) fn ask_rows(machine: &Machine, method: &str, params: &Value) -> Vec<Value> {
    let path = text(&machine.ready, "socket");
    let mut stream = BufReader::new(UnixStream::connect(path).unwrap());
    let line = serde_json::json!({ "id": 1, "method": method, "params": params });
    writeln!(stream.get_mut(), "{line}").unwrap();
    let mut rows = Vec::new();
    loop {
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"], Value::Null, "{answer}");
        match answer["item"].is_object() {
            true => rows.push(answer["item"].clone()),
            false => return rows,
        }
    }
}

impl Machine {
    /// A file beside the machines.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root.join(format!("{}-{name}", self.name.replace('/', "-")));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts bytes with a type; gives what was printed.
    #[track_caller]
    pub(crate) fn put(&self, bytes: &[u8], type_tag: Option<&str>) -> Value {
        let mut arguments = vec!["put", "-"];
        arguments.extend(type_tag.into_iter().flat_map(|tag| ["--type", tag]));
        let ran = self.try_with(arguments, bytes);
        assert_eq!(ran.code, 0, "{}: {}", self.name, ran.stderr);
        ran.items().remove(0)
    }

    /// Puts bytes; gives their key.
    #[track_caller]
    pub(crate) fn key_of(&self, bytes: &[u8]) -> String {
        text(&self.put(bytes, None), "key")
    }

    /// The bytes of an artifact, through a file.
    #[track_caller]
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let path = self.root.join(format!("{}-got", self.name.replace('/', "-")));
        let row = self.one(["get", key, "-o", path.to_str().unwrap()]);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(row["size"], bytes.len());
        bytes
    }

    /// What `artifacts` tells of a key.
    #[track_caller]
    pub(crate) fn artifact(&self, key: &str) -> Option<Value> {
        self.run(["artifacts", "--hidden"]).into_iter().find(|row| row["key"] == key)
    }

    /// Whether all of an artifact's bytes are here.
    #[track_caller]
    pub(crate) fn has(&self, key: &str) -> bool {
        self.artifact(key).is_some_and(|row| row["have"] == true)
    }

    /// Where the bytes of an artifact are.
    pub(crate) fn stored(&self, key: &str) -> PathBuf {
        self.dir.join(".quipu/artifacts").join(&key[key.len() - 2..]).join(key)
    }

    /// Changes a stored file.
    #[track_caller]
    pub(crate) fn spoil(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.stored(key);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    }

    /// What a command printed, to the byte.
    #[track_caller]
    pub(crate) fn printed(&self, arguments: &[&str]) -> String {
        let ran = self.try_run(arguments);
        assert_eq!(ran.code, 0, "{}: {arguments:?}: {}", self.name, ran.stderr);
        ran.stdout
    }

    /// Adds an edge; gives its event.
    #[track_caller]
    pub(crate) fn edge(&self, from: &[&str], to: &[&str], kind: &str) -> String {
        let mut arguments = vec!["edge", "add", "--from"];
        arguments.extend(from);
        arguments.push("--to");
        arguments.extend(to);
        arguments.extend(["--type", kind]);
        super::uuid(&self.one(arguments))
    }

    /// Makes a snapshot; gives its id.
    #[track_caller]
    pub(crate) fn snapshot(&self, name: &str) -> String {
        text(&self.one(["snapshot", "create", "--name", name]), "id")
    }

    /// The key of this machine.
    #[track_caller]
    pub(crate) fn node(&self) -> String {
        text(&self.one(["id"]), "node")
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
