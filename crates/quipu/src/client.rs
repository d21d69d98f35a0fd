//! Talking to a machine: to its daemon if one runs, else to its store directly.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use quipu_node::api::{Api, ApiError, ExitCode, Request, Sink};
use quipu_node::home::Home;
use quipu_node::service::{Mailbox, Peers, Service};
use serde_json::Value;

use crate::cli::Global;
use crate::network::Quic;
use crate::socket::{self, AnswerLine, RequestLine};
use crate::start;

/// A machine to talk to.
#[derive(Debug)]
pub(crate) struct Client {
    machine: Machine,
    /// The domain whose published log is asked about; else the machine's internal log.
    of: Option<String>,
}

/// How a machine is reached.
#[derive(Debug)]
pub(crate) enum Machine {
    /// Through its daemon.
    Daemon { stream: BufReader<UnixStream>, next_id: u64 },
    /// Itself, in this process.
    Local { api: Box<Api>, service: Option<Service>, quic: Option<Quic> },
}

impl Client {
    /// Opens the machine that the options name, to read the log that they name.
    pub(crate) fn about(global: &Global) -> Result<Self, ApiError> {
        Ok(Self::open(&start::find_home(global)?)?.of(global.of.clone()))
    }

    /// Asks about the published log of a domain, if one is named.
    pub(crate) fn of(self, of: Option<String>) -> Self {
        Self { of, ..self }
    }

    /// Whether it asks about a published log.
    pub(crate) fn is_about_published(&self) -> bool {
        self.of.is_some()
    }

    /// Opens a machine for commands that need no network.
    pub(crate) fn open(home: &Home) -> Result<Self, ApiError> {
        Self::open_with(home, false)
    }

    /// Opens a machine; with network if it has to reach peers.
    pub(crate) fn open_with(home: &Home, network: bool) -> Result<Self, ApiError> {
        start::patiently(|| {
            if let Ok(stream) = UnixStream::connect(home.socket()) {
                let machine = Machine::Daemon { stream: BufReader::new(stream), next_id: 1 };
                return Ok(Client { machine, of: None });
            }
            Self::open_local(home, network)
        })
    }

    fn open_local(home: &Home, network: bool) -> Result<Self, ApiError> {
        let (service, quic) = if network {
            let mailbox = Mailbox::default();
            let key = home.key()?;
            let any = "0.0.0.0:0".parse().map_err(|_| ApiError::misuse("address"))?;
            let quic = Quic::bind(key.to_bytes(), vec![any], false, &mailbox)?;
            let driver = start::driver(home, home.domain()?, key, quic.network())?;
            (Service::start(home.clone(), driver, mailbox, Peers::Once), Some(quic))
        } else {
            (start::offline(home)?, None)
        };
        let api = Box::new(Api::new(service.handle())?);
        let machine = Machine::Local { api, service: Some(service), quic };
        Ok(Client { machine, of: None })
    }

    /// Sends a request; every item of the answer goes to the sink.
    pub(crate) fn ask(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError> {
        let request = match &self.of {
            Some(domain) => {
                let (domain, request) = (domain.clone(), Box::new(request));
                Request::In { domain, request }
            }
            None => request,
        };
        match &mut self.machine {
            Machine::Local { api, .. } => api.answer(request, sink),
            Machine::Daemon { stream, next_id } => {
                let id = *next_id;
                *next_id += 1;
                let mut line = serde_json::to_vec(&RequestLine { id, request })
                    .map_err(|error| ApiError::new(ExitCode::Bug, error.to_string()))?;
                line.push(b'\n');
                stream.get_mut().write_all(&line).map_err(daemon_gone)?;
                read_answers(stream, sink)
            }
        }
    }

    /// Sends a request that has one item as its answer.
    pub(crate) fn one(&mut self, request: Request) -> Result<Value, ApiError> {
        let mut answer = None;
        self.ask(request, &mut |item| {
            answer = Some(item);
            Ok(())
        })?;
        answer.ok_or_else(|| ApiError::new(ExitCode::Bug, "the machine gave no answer"))
    }
}

impl quipu_run::Ask for Client {
    fn ask(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError> {
        Client::ask(self, request, sink)
    }
}

fn daemon_gone(error: std::io::Error) -> ApiError {
    ApiError::new(ExitCode::Storage, format!("the daemon is gone: {error}"))
        .hint("what it acknowledged is safe; run the command again")
}

fn read_answers(stream: &mut BufReader<UnixStream>, sink: Sink<'_>) -> Result<(), ApiError> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).map_err(daemon_gone)? == 0 {
            let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(daemon_gone(error));
        }
        if socket::is_greeting(&line) {
            continue;
        }
        let answer: AnswerLine = serde_json::from_str(&line)
            .map_err(|error| ApiError::new(ExitCode::Bug, format!("from the daemon: {error}")))?;
        if let Some(item) = answer.item {
            sink(item)?;
        } else if let Some(error) = answer.error {
            return Err(error);
        } else if answer.done {
            return Ok(());
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Machine::Local { service, quic, .. } = self {
            if let Some(service) = service.take()
                && let Err(error) = service.stop()
            {
                tracing::error!(%error, "while closing the store");
            }
            if let Some(quic) = quic.take() {
                quic.shutdown();
            }
        }
    }
}
