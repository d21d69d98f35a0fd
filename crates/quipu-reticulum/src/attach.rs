//! Becoming a part of the network: through a running instance, or with interfaces of our own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use rns_net::{RnsNode, storage};

use crate::callbacks::{Happening, Reporter};
use crate::retry::keep_trying;

/// How often Reticulum looks at its timers, in milliseconds: resources wait for them.
const TICK_MS: u64 = 200;

/// Attaches to the shared instance of a configuration if it runs, else runs the configuration's
/// interfaces.
pub(crate) fn attach(
    config: Option<&Path>,
    sender: Sender<Happening>,
) -> Result<Arc<RnsNode>, String> {
    let directory = storage::resolve_config_dir(config);
    let file = directory.join("config");
    if !file.exists() {
        return Err(format!(
            "there is no Reticulum configuration at {}; `rnsd --config {}` makes one",
            file.display(),
            directory.display()
        ));
    }
    let settings = rns_net::config::parse_file(&file)
        .map_err(|error| format!("the configuration {}: {error}", file.display()))?;
    let reporter = || Box::new(Reporter(sender.clone()));
    let shared = settings.reticulum.share_instance.then(|| {
        let shared = RnsNode::connect_shared_from_config(Some(&directory), reporter());
        shared.inspect_err(|error| log::info!("no shared instance to attach to: {error}"))
    });
    if let Some(Ok(node)) = shared {
        node.set_tick_interval(TICK_MS);
        return Ok(Arc::new(node));
    }
    let node = RnsNode::from_config(Some(&directory), reporter())
        .map_err(|error| format!("the interfaces of {}: {error}", file.display()))?;
    node.set_tick_interval(TICK_MS);
    let node = Arc::new(node);
    keep_trying(&node, settings.interfaces);
    Ok(node)
}
