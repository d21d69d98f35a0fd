//! The machine's part in a mesh, kept up to date with the log: what clients of `meshlog.socket/1` see, and how what
//! they emit becomes events of this machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_core::id::{EventId, NodeKey};
use quipu_core::node::{Command, Reply};
use quipu_meshlog::domain::Added;
use quipu_meshlog::event::Event;
use quipu_meshlog::identity::Identity;
use quipu_meshlog::json::{Object, Style, Value};
use quipu_meshlog::mesh::Mesh;
use quipu_meshlog::native::Said;
use quipu_meshlog::order::Ordered;
use quipu_meshlog::policy::Verdict;
use quipu_meshlog::projection::said_of;
use quipu_meshlog::records::Records;
use quipu_meshlog::socket::{Host, HostFailed};
use quipu_meshlog::text::Text;
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::home::Home;
use quipu_node::service::Handle;
use quipu_radio::GuestEvent;
use serde_json::json;

use super::air::{Air, Blunders};

/// Events of a mesh that are kept by one commit.
const WRAPPED_AT_ONCE: usize = 500;

/// What clients see as the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shown {
    /// The records, as meshlogd 0.1.0 shows them.
    Records,
    /// All events in order, as `meshlogd serve --raw` shows them.
    Raw,
    /// None, as of `meshlogd serve`.
    None,
}

/// The view, as far as it is.
enum Kept {
    Records(Records),
    Raw(Ordered),
    None,
}

impl From<Shown> for Kept {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Records => Self::Records(Records::default()),
            Shown::Raw => Self::Raw(Ordered::default()),
            Shown::None => Self::None,
        }
    }
}

/// The machine in the mesh.
pub(super) struct MeshHost {
    home: Home,
    handle: Handle,
    node: NodeKey,
    /// Whether this machine has an identity, as far as is known here.
    is_named: bool,
    mesh: Mesh,
    /// How many events of the domain were added.
    applied: u64,
    shown: Shown,
    view: Kept,
    /// How many events of the mesh are in the view.
    viewed: usize,
    /// An event that was just written, and what place it has in the mesh once it is added.
    wanted: Option<(EventId, Option<u64>)>,
    /// The way to other nodes, if there is one.
    air: Option<Air>,
    /// What `mesh status` was told last.
    told: Told,
    /// Authors whose forks the log was told of.
    warned: BTreeSet<Text>,
}

/// What `mesh status` says of other nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    linked: usize,
    blunders: Blunders,
    /// Authors who wrote two histories, as far as is known here.
    forks: usize,
    /// Those of them whose signatures prove it.
    proven: usize,
}

impl MeshHost {
    /// Reads the whole log.
    pub(super) fn start(
        home: &Home,
        handle: Handle,
        shown: Shown,
        air: Option<Air>,
    ) -> Result<Self, ApiError> {
        let node = handle.call(|machine| machine.driver.node().key())?;
        let (is_named, home) = (false, home.clone());
        let (mesh, view) = (Mesh::default(), shown.into());
        let mut host = Self {
            home,
            handle,
            node,
            is_named,
            mesh,
            applied: 0,
            shown,
            view,
            viewed: 0,
            wanted: None,
            air,
            told: Told::default(),
            warned: BTreeSet::new(),
        };
        host.catch_up()?;
        Ok(host)
    }

    /// Adds what the log has and the mesh has not, and signs what waits for this machine's signature.
    pub(super) fn catch_up(&mut self) -> Result<(), ApiError> {
        self.read()?;
        if !self.is_named
            && self.mesh.context().claim_of(&self.node).is_some()
            && let Some(bytes) = self.home.mesh_identity()?
        {
            self.is_named = true;
            if let Some(air) = &mut self.air {
                air.appear(&Identity::from_bytes(&bytes), bytes);
            }
        }
        if self.mesh.waits(&self.node) {
            self.handle.sign_records()?;
            self.read()?;
        }
        Ok(())
    }

    /// The link helper says something.
    pub(super) fn on_air(&mut self, event: GuestEvent) {
        if let Some(air) = &mut self.air {
            air.hear(event, &mut self.mesh);
        }
    }

    /// Time has passed.
    pub(super) fn go_on(&mut self) {
        if let Some(air) = &mut self.air {
            air.go_on(&mut self.mesh);
        }
        self.report();
    }

    /// Lets `mesh status` say what has changed, and warns of feeds that forked.
    fn report(&mut self) {
        let Some(air) = &self.air else { return };
        let (mut forks, mut proven) = (0, 0);
        for (author, fork) in self.mesh.log().forks() {
            forks += 1;
            proven += usize::from(fork.other.verdict == Verdict::Proven);
            if !self.warned.contains(author) {
                let (held, other) = (fork.held, fork.other.id);
                tracing::warn!(%author, seq = fork.seq, %held, %other, "a node of a mesh wrote two histories");
                self.warned.insert(author.clone());
            }
        }
        let told = Told { linked: air.linked().len(), blunders: air.blunders(), forks, proven };
        if told == self.told {
            return;
        }
        let report = self.mesh_report(told);
        // If the machine is gone, nobody asks any more.
        drop(self.handle.call(move |machine| machine.set_mesh_report(report)));
        self.told = told;
    }

    fn mesh_report(&self, told: Told) -> serde_json::Value {
        let forks = self.mesh.log().forks().map(|(author, fork)| {
            json!({
                "author": author.to_string(),
                "seq": fork.seq,
                "ids": [fork.held.to_string(), fork.other.id.to_string()],
                "proven": fork.other.verdict == Verdict::Proven,
            })
        });
        json!({
            "linked": told.linked,
            "refused_events": told.blunders.refused_events,
            "bad_messages": told.blunders.bad_messages,
            "forks": forks.collect::<Vec<_>>(),
        })
    }

    /// Keeps in the domain what came from a mesh.
    pub(super) fn take_in(&mut self) -> Result<(), ApiError> {
        let foreign = self.mesh.take_foreign();
        for events in foreign.chunks(WRAPPED_AT_ONCE) {
            let mut said = Vec::with_capacity(events.len());
            for event in events {
                match Said::Wrapped(Box::new(Event::clone(event))).to_value() {
                    Ok(one) => said.push(one),
                    // It stays in the mesh: a domain has no place for it.
                    Err(error) => tracing::warn!(%error, id = %event.id(), "an event of a mesh"),
                }
            }
            self.handle.command(Command::Tell(said))?;
        }
        let verdicts = self.mesh.take_verdicts();
        let verdicts = self.write_verdicts(&verdicts)?;
        if verdicts + foreign.len() > 0 {
            self.catch_up()?;
        }
        Ok(())
    }

    /// Tells the domain whose keys were seen first, so that all of it believes the same (MESH-5). Says how many.
    fn write_verdicts(&self, verdicts: &[Said]) -> Result<usize, ApiError> {
        let said = verdicts.iter().map(Said::to_value).collect::<Result<Vec<_>, _>>();
        let said = said.map_err(|error| ApiError::refused(error.to_string()))?;
        if !said.is_empty() {
            self.handle.command(Command::Tell(said))?;
        }
        Ok(verdicts.len())
    }

    fn read(&mut self) -> Result<(), ApiError> {
        // Before the log is read for the first time, admins make no difference yet.
        let mut stale = self.mesh.set_admins(self.handle.admins()?) == Added::Stale;
        loop {
            let (events, seen) = self.handle.events_from(self.applied)?;
            if seen == 0 && !stale {
                break;
            }
            if seen == 0 {
                // A node that had written already has an identity now: its feed has another name.
                stale = false;
                self.mesh.restart();
                (self.view, self.viewed, self.applied) = (self.shown.into(), 0, 0);
                continue;
            }
            for event in &events {
                stale |= self.mesh.add(event) == Added::Stale;
                if let Some((id, place)) = &mut self.wanted
                    && *id == event.id
                {
                    *place = Some(self.mesh.made_by(&self.node));
                }
            }
            self.applied += seen;
        }
        for event in &self.mesh.log().arrived()[self.viewed..] {
            match &mut self.view {
                Kept::Records(records) => records.apply(event),
                Kept::Raw(ordered) => ordered.apply(event),
                Kept::None => {}
            }
        }
        self.viewed = self.mesh.log().len();
        Ok(())
    }

    fn tell(&self, said: &Said) -> Result<EventId, ApiError> {
        let (kind, value) =
            said.to_value().map_err(|error| ApiError::refused(error.to_string()))?;
        match self.handle.command(Command::Tell(vec![(kind, value)]))? {
            Reply::Emitted(events) if !events.is_empty() => Ok(events[0].id),
            other => Err(ApiError::new(ExitCode::Bug, format!("unexpected reply {other:?}"))),
        }
    }

    fn write(&mut self, kind: &Text, payload: &Value) -> Result<Arc<Event>, ApiError> {
        let author = self.author();
        let id = self.tell(&said_of(kind, payload, &author))?;
        self.wanted = Some((id, None));
        let caught_up = self.catch_up();
        let place = self.wanted.take().and_then(|(_, place)| place);
        caught_up?;
        let event = place.and_then(|place| self.mesh.log().at(&author, place)).cloned();
        event.ok_or_else(|| {
            ApiError::new(
                ExitCode::Refused,
                format!("event {id} was written, and cannot go to a mesh"),
            )
            .hint("quipu doctor: this machine's feed may be forked")
        })
    }
}

impl Host for MeshHost {
    fn author(&self) -> Text {
        self.mesh.context().author_of(&self.node)
    }

    fn frontier(&self) -> Object {
        self.mesh.log().frontier()
    }

    fn events_after(&self, author: &Text, from: usize) -> Vec<Arc<Event>> {
        self.mesh.log().feed(author).get(from..).unwrap_or_default().to_vec()
    }

    fn emit(&mut self, kind: &Text, payload: &Value) -> Result<Arc<Event>, HostFailed> {
        self.write(kind, payload).map_err(|error| {
            tracing::warn!(%error, "a client of meshlog.socket emitted an event");
            HostFailed
        })
    }

    fn has_view(&self) -> bool {
        self.shown != Shown::None
    }

    fn write_view(&self, out: &mut Vec<u8>) {
        match &self.view {
            // Into memory nothing fails.
            Kept::Records(records) => drop(records.write_json(out)),
            Kept::Raw(ordered) => ordered.write_json(Style::Compact, out),
            Kept::None => {}
        }
    }

    fn peers(&self) -> Vec<Text> {
        self.air.as_ref().map(Air::linked).unwrap_or_default()
    }
}
