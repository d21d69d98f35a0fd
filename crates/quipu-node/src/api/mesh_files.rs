//! Data files of meshlogd, in and out (MESH-4).

use std::io::Write;
use std::sync::Arc;

use quipu_meshlog::domain::{Added, Entry};
use quipu_meshlog::event::Event;
use quipu_meshlog::file;
use quipu_meshlog::mesh::Mesh;
use quipu_meshlog::native::Said;
use quipu_meshlog::order::fold_order;
use serde_json::json;

use super::records::TextItems;
use super::{Api, ApiError, Sink};

impl Api {
    /// Wraps events of a mesh that came as a file. Lines are those of a message or a data file.
    pub(super) fn mesh_import(&self, lines: &[String], sink: Sink<'_>) -> Result<(), ApiError> {
        let view = self.view_now()?;
        let (mut new, mut known, mut ours, mut refused) = (Vec::new(), 0, 0, Vec::new());
        let mut seen = std::collections::BTreeSet::new();
        for (line, number) in lines.iter().zip(0u64..) {
            let mut refuse = |why: String| refused.push(json!({ "item": number, "why": why }));
            let event = match Event::parse(line.as_bytes()) {
                Ok(event) => event,
                Err(error) => {
                    refuse(error.to_string());
                    continue;
                }
            };
            let (id, author) = (event.id(), event.author.clone());
            match view.entry(&event) {
                Entry::New if seen.insert(id) => match Said::Wrapped(Box::new(event)).to_value() {
                    Ok(said) => new.push(said),
                    Err(error) => refuse(error.to_string()),
                },
                Entry::New | Entry::Known => known += 1,
                Entry::Ours => ours += 1,
                Entry::Forged => {
                    refuse(format!(
                        "event {id} of {author}: the id is not the hash of its content"
                    ));
                }
                Entry::Unproven => {
                    refuse(format!("event {id} of {author}: not signed by the author's known key"));
                }
            }
        }
        let count = new.len();
        if !new.is_empty() {
            self.tell(new)?;
        }
        Ok(sink(json!({ "events": count, "known": known, "own": ours, "refused": refused }))?)
    }

    /// Everything that a gateway of this domain holds for other nodes, as the lines of a data file. Feeds are in fold order, so that
    /// machines that hold the same write the same.
    pub(super) fn mesh_export(&self, at: Option<&str>, mut sink: Sink<'_>) -> Result<(), ApiError> {
        let mesh = self.mesh(at)?;
        let offered = mesh.log().offered().flat_map(|(_, feed)| feed);
        let mut events: Vec<&Arc<Event>> = offered.collect();
        events.sort_by(|a, b| fold_order(a, b));
        let mut out = TextItems::new(&mut sink);
        let mut line = Vec::new();
        for event in &events {
            line.clear();
            file::write_line(event, &mut line);
            out.write_all(&line)?;
        }
        out.flush()?;
        let (hidden, waiting) = (mesh.log().hidden().count(), mesh.waiting());
        Ok(sink(json!({ "events": events.len(), "unnamed": hidden, "unsigned": waiting }))?)
    }

    /// The part of this domain in a mesh, as of now or as of an event.
    fn mesh(&self, at: Option<&str>) -> Result<Mesh, ApiError> {
        if self.focus.is_some() {
            return Err(ApiError::misuse("published logs have no part in meshes"));
        }
        let cut = self.cut(at)?;
        let admins = match &cut {
            None => self.handle.admins()?,
            Some(cut) => {
                let of = Arc::clone(cut);
                self.read(move |machine| super::at::admins_at(machine, &of))?
            }
        };
        let mut mesh = Mesh::default();
        // Nothing was added yet that this could change.
        let _nothing = mesh.set_admins(admins);
        loop {
            let mut stale = false;
            self.scan(cut.as_ref(), |_| true, &mut |event| {
                stale |= mesh.add(event) == Added::Stale;
                Ok(())
            })?;
            if !stale {
                return Ok(mesh);
            }
            mesh.restart();
        }
    }
}
