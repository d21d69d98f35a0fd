//! The helper as a process, as any daemon starts it: `docs/formats/link-helper.md`, over its standard streams.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use quipu_helper::limits::VERSION;
use quipu_helper::{Frames, FromHelper, ToHelper, frame};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

struct Helper {
    process: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<FromHelper>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Helper {
    /// With one UDP interface on loopback.
    fn start(dir: &std::path::Path) -> Self {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::with(
            dir,
            &format!(
                "[[Udp]]\ntype = UDPInterface\nenabled = Yes\nlisten_ip = 127.0.0.1\nlisten_port = {port}\n\
                 forward_ip = 127.0.0.1\nforward_port = {port}\n"
            ),
        )
    }

    fn with(dir: &std::path::Path, interfaces: &str) -> Self {
        let config = format!(
            "[reticulum]\nenable_transport = No\nshare_instance = No\n[interfaces]\n{interfaces}"
        );
        std::fs::write(dir.join("config"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quipu-reticulum"));
        command.arg("--config").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        let stdin = process.stdin.take();
        let mut stdout = process.stdout.take().unwrap();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let (mut frames, mut buffer) = (Frames::default(), vec![0; 4096]);
            while let Ok(count) = stdout.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                frames.push(&buffer[..count]);
                while let Some(bytes) = frames.pop().unwrap() {
                    if sender.send(FromHelper::decode(bytes).unwrap()).is_err() {
                        return;
                    }
                }
            }
        });
        Self { process, stdin, said }
    }

    fn say(&mut self, message: &ToHelper) {
        self.stdin.as_mut().unwrap().write_all(&frame(&message.encode())).unwrap();
    }

    /// The next thing that it says and that this gives something of.
    fn wait<T>(&self, of: impl Fn(FromHelper) -> Option<T>) -> T {
        loop {
            let said = self.said.recv_timeout(ANSWER_MAX).expect("it says something in time");
            if let Some(found) = of(said) {
                return found;
            }
        }
    }
}

#[test]
fn it_greets_and_registers_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path());
    let version = helper.wait(|said| match said {
        FromHelper::Hello { version, .. } => Some(version),
        _ => None,
    });
    assert_eq!(version, VERSION);
    helper.say(&ToHelper::Hello { version: VERSION, name: "a test".into() });
    let mut addresses = Vec::new();
    for (number, seed) in [(1, 3), (2, 4)] {
        helper.say(&ToHelper::Identity { identity: number, private: [seed; 64] });
        let hash = helper.wait(|said| match said {
            FromHelper::Identity { identity, hash, .. } if identity == number => Some(hash),
            _ => None,
        });
        let (app, aspects) = ("quipu".to_owned(), vec!["test".to_owned()]);
        helper.say(&ToHelper::Register { destination: number, identity: number, app, aspects });
        let address = helper.wait(|said| match said {
            FromHelper::Registered { destination, address } if destination == number => {
                Some(address)
            }
            _ => None,
        });
        assert_ne!(hash, address);
        addresses.push(address);
    }
    assert_ne!(addresses[0], addresses[1], "two keys, one name: two places");
    helper.say(&ToHelper::Look {});
    let interfaces = helper.wait(|said| match said {
        FromHelper::Interfaces { interfaces } => Some(interfaces),
        _ => None,
    });
    assert_eq!(interfaces.len(), 1, "{interfaces:?}");
    helper.say(&ToHelper::Bye {});
    assert!(helper.process.wait().unwrap().success());
}

#[test]
fn what_is_no_message_ends_it_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path());
    helper.say(&ToHelper::Hello { version: VERSION, name: "a test".into() });
    helper.stdin.as_mut().unwrap().write_all(&frame(b"\xff\xff nonsense")).unwrap();
    let reason = helper.wait(|said| match said {
        FromHelper::Bye { reason } => Some(reason),
        _ => None,
    });
    assert!(!reason.is_empty());
    assert!(!helper.process.wait().unwrap().success());
}

/// Who it is to connect to listens a while after its start.
#[test]
fn what_could_not_start_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let port = address.port();
    let mut helper = Helper::with(
        dir.path(),
        &format!(
            "[[Late]]\ntype = TCPClientInterface\nenabled = Yes\ntarget_host = 127.0.0.1\ntarget_port = {port}\n"
        ),
    );
    helper.say(&ToHelper::Hello { version: VERSION, name: "a test".into() });
    helper.say(&ToHelper::Look {});
    let interfaces = |said| match said {
        FromHelper::Interfaces { interfaces } => Some(interfaces),
        _ => None,
    };
    assert_eq!(helper.wait(interfaces), []);
    let _listens = TcpListener::bind(address).unwrap();
    let late = helper.wait(|said| interfaces(said).filter(|all| !all.is_empty()));
    assert!(late[0].up && late[0].name == "Late", "{late:?}");
}
