//! What Reticulum tells. It is passed on at once: nothing may be asked of Reticulum in a callback.

use std::sync::mpsc::Sender;

use quipu_helper::ToHelper;
use quipu_helper::limits::RESOURCE_BYTES_MAX;
use rns_net::link_send::LinkSendReceipt;
use rns_net::resource::{ResourceTransferError, ResourceTransferId};
use rns_net::{
    AnnouncedIdentity, DestHash, IdentityHash, InterfaceId, LinkId, PacketHash, TeardownReason,
};

/// Something that happened.
pub(crate) enum Happening {
    /// The daemon said something.
    Said(ToHelper),
    /// The daemon says nothing more, or something that is no message.
    InputEnd { wrong: Option<String> },
    /// An announce came.
    Announced(Box<AnnouncedIdentity>),
    /// A link is there.
    Established { link: [u8; 16], to: [u8; 16], rtt: f64, opened_here: bool },
    /// A link is gone.
    Closed { link: [u8; 16], reason: Option<TeardownReason> },
    /// Who is at the other end.
    Identified { link: [u8; 16], identity: [u8; 16], public: [u8; 64] },
    /// A packet came.
    Packet { link: [u8; 16], data: Vec<u8> },
    /// A packet has left, or has not.
    Left { link: [u8; 16], number: u64, error: Option<String> },
    /// A resource came.
    Resource { link: [u8; 16], data: Vec<u8> },
    /// A part of it came.
    Incoming { link: [u8; 16], done: u64, total: u64 },
    /// A resource arrived, or did not.
    Arrived { link: [u8; 16], transfer: ResourceTransferId, error: Option<String> },
    /// A destination can be linked to, or not.
    Path { request: u64, known: bool },
    /// An interface went up.
    InterfaceUp,
    /// An interface went down.
    InterfaceDown { interface: InterfaceId },
}

/// Waits for a packet to leave, on a thread of its link.
pub(crate) struct Leaving {
    pub(crate) number: u64,
    pub(crate) receipt: LinkSendReceipt,
}

/// Passes on what Reticulum tells.
pub(crate) struct Reporter(pub(crate) Sender<Happening>);

impl Reporter {
    fn tell(&self, happening: Happening) {
        // Only at the end is nobody there.
        drop(self.0.send(happening));
    }

    fn arrived(&self, link: LinkId, transfer: ResourceTransferId, error: Option<String>) {
        self.tell(Happening::Arrived { link: link.0, transfer, error });
    }
}

impl rns_net::Callbacks for Reporter {
    fn on_announce(&mut self, announced: AnnouncedIdentity) {
        self.tell(Happening::Announced(Box::new(announced)));
    }

    fn on_path_updated(&mut self, _dest: DestHash, _hops: u8) {}

    fn on_local_delivery(&mut self, _dest: DestHash, _raw: Vec<u8>, _packet: PacketHash) {}

    fn on_interface_up(&mut self, _id: InterfaceId) {
        self.tell(Happening::InterfaceUp);
    }

    fn on_interface_down(&mut self, id: InterfaceId) {
        self.tell(Happening::InterfaceDown { interface: id });
    }

    fn on_link_established(&mut self, link: LinkId, dest: DestHash, rtt: f64, initiator: bool) {
        self.tell(Happening::Established { link: link.0, to: dest.0, rtt, opened_here: initiator });
    }

    fn on_link_closed(&mut self, link: LinkId, reason: Option<TeardownReason>) {
        self.tell(Happening::Closed { link: link.0, reason });
    }

    fn on_remote_identified(&mut self, link: LinkId, identity: IdentityHash, public: [u8; 64]) {
        self.tell(Happening::Identified { link: link.0, identity: identity.0, public });
    }

    fn on_resource_received(&mut self, link: LinkId, data: Vec<u8>, _metadata: Option<Vec<u8>>) {
        self.tell(Happening::Resource { link: link.0, data });
    }

    fn on_resource_progress(&mut self, link: LinkId, received: usize, total: usize) {
        let (done, total) = (received as u64, total as u64);
        self.tell(Happening::Incoming { link: link.0, done, total });
    }

    fn on_resource_stream_completed(&mut self, link: LinkId, transfer: ResourceTransferId) {
        self.arrived(link, transfer, None);
    }

    fn on_resource_stream_failed(
        &mut self,
        link: LinkId,
        transfer: ResourceTransferId,
        error: ResourceTransferError,
    ) {
        self.arrived(link, transfer, Some(format!("{error:?}")));
    }

    fn on_resource_accept_query(
        &mut self,
        _link: LinkId,
        _hash: Vec<u8>,
        transfer_size: u64,
        _has_metadata: bool,
    ) -> bool {
        transfer_size <= RESOURCE_BYTES_MAX as u64
    }

    fn on_link_data(&mut self, link: LinkId, context: u8, data: Vec<u8>) {
        if context == rns_core::constants::CONTEXT_NONE {
            self.tell(Happening::Packet { link: link.0, data });
        }
    }
}
