//! What the helper remembers of a link.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rns_net::link_send::{LinkSendError, LinkSendReceipt};
use rns_net::resource::ResourceTransferId;
use rns_net::{InterfaceId, RnsNode};

use crate::callbacks::{Happening, Leaving};

/// A resource that the daemon wants to be sent.
pub(crate) struct Outgoing {
    pub(crate) number: u64,
    pub(crate) compress: bool,
    pub(crate) data: Vec<u8>,
}

/// A link.
pub(crate) struct Link {
    id: [u8; 16],
    /// Where it goes out, if it was opened here.
    pub(crate) interface: Option<InterfaceId>,
    /// Resources that wait for the one before them.
    waiting: VecDeque<Outgoing>,
    /// The resource that is on its way.
    moving: Option<(ResourceTransferId, u64)>,
    /// To the thread that waits for packets to leave.
    leaving: Sender<Leaving>,
}

impl Link {
    pub(crate) fn new(
        id: [u8; 16],
        interface: Option<InterfaceId>,
        hub: Sender<Happening>,
    ) -> Self {
        let (leaving, packets) = channel::<Leaving>();
        std::thread::spawn(move || {
            for Leaving { number, receipt } in packets {
                let error = settle(receipt).err().map(|error| error.to_string());
                if hub.send(Happening::Left { link: id, number, error }).is_err() {
                    return;
                }
            }
        });
        Self { id, interface, waiting: VecDeque::new(), moving: None, leaving }
    }

    /// Sends a packet. The answer comes when it has left.
    pub(crate) fn send_packet(
        &self,
        node: &RnsNode,
        number: u64,
        data: Vec<u8>,
    ) -> Result<(), String> {
        let context = rns_core::constants::CONTEXT_NONE;
        let receipt =
            node.try_send_on_link(self.id, data, context).map_err(|error| error.to_string())?;
        self.leaving.send(Leaving { number, receipt }).map_err(|error| error.to_string())
    }

    /// Sends a resource, after those before it.
    pub(crate) fn send_resource(&mut self, node: &RnsNode, outgoing: Outgoing) -> Vec<Failed> {
        self.waiting.push_back(outgoing);
        self.next_resource(node)
    }

    /// A resource is through. Its number, if it was sent from here.
    pub(crate) fn arrived(&mut self, transfer: ResourceTransferId) -> Option<u64> {
        self.moving.take_if(|(moving, _)| *moving == transfer).map(|(_, number)| number)
    }

    /// Begins the next resource if none is on its way. Answers those that could not be begun.
    pub(crate) fn next_resource(&mut self, node: &RnsNode) -> Vec<Failed> {
        let mut failed = Vec::new();
        while self.moving.is_none()
            && let Some(Outgoing { number, compress, data }) = self.waiting.pop_front()
        {
            let length = data.len() as u64;
            match node.send_resource_reader(self.id, Cursor::new(data), length, None, compress) {
                Ok(transfer) => {
                    log::debug!("transfer {transfer:?} of {length} bytes begins");
                    self.moving = Some((transfer, number));
                }
                Err(_) => failed.push(Failed(number)),
            }
        }
        failed
    }
}

/// How long a packet may take to leave: nothing that Reticulum does not say may keep the packets after it.
const LEAVE: Duration = Duration::from_millis(500);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a packet to leave. One that does not say in time is taken to have left: if it is lost, its other
/// end will not acknowledge it.
fn settle(receipt: LinkSendReceipt) -> Result<(), LinkSendError> {
    let mut receipt = pin!(receipt);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let until = Instant::now() + LEAVE;
    loop {
        if let Poll::Ready(result) = receipt.as_mut().poll(&mut context) {
            return result;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::park_timeout(left);
    }
}

/// A resource that could not be begun, because Reticulum ends.
pub(crate) struct Failed(pub(crate) u64);
