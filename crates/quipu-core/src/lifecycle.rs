//! The life of an event on one machine, from bytes to state, as a transition table. Every decision
//! about an incoming event is one step of this table.

crate::machine! {
    /// Where an event is in its life on this machine.
    Stage / Verdict, "event";
    states {
        /// Unpacked: its id is true, nothing else is known.
        Received,
        /// Waits for a signature on it or on a later event of its feed.
        Unsigned,
        /// Its author is proven.
        Authentic,
        /// Waits for events it links to, which were asked for.
        Waiting,
        /// In the DAG, in the digest, in every fold.
        Applied,
        /// Kept aside: its author was not entitled to write it. Not linked to, relayed or folded.
        Quarantined,
        /// Held already.
        Known,
        /// Breaks a rule. It leaves no trace.
        Refused,
    }
    inputs {
        /// No signature covers it yet.
        SignatureMissing,
        /// A signature that covers it was verified.
        SignatureVerified,
        /// A signature that should cover it is wrong.
        SignatureWrong,
        /// It is in the log.
        AlreadyHeld,
        /// Events it links to are not here.
        LinksMissing,
        /// The events it waited for are here.
        LinksArrived,
        /// A rule of the format, the links or the clock is broken.
        RuleBroken,
        /// Valid, and its author was entitled to write it.
        Effective,
        /// Valid, but its author was not entitled to write it.
        Ineffective,
        /// A removal arrived that has the last word over it.
        AuthorRemoved,
        /// An effective event links to it, or its author was re-admitted.
        NeededOrReadmitted,
    }
    start Received;
    Received --SignatureMissing--> Unsigned;
    Received --SignatureVerified--> Authentic;
    Received --SignatureWrong--> Refused;
    Unsigned --SignatureVerified--> Authentic;
    Unsigned --SignatureWrong--> Refused;
    Authentic --AlreadyHeld--> Known;
    Authentic --LinksMissing--> Waiting;
    Authentic --RuleBroken--> Refused;
    Authentic --Effective--> Applied;
    Authentic --Ineffective--> Quarantined;
    Waiting --LinksArrived--> Authentic;
    Applied --AuthorRemoved--> Quarantined;
    Quarantined --NeededOrReadmitted--> Applied;
}

impl Stage {
    /// The stage that follows. Where the table has no arrow nothing good can follow: the event is
    /// refused.
    pub fn after(self, verdict: Verdict) -> Self {
        let next = crate::machine::Machine::on(self, verdict);
        debug_assert!(next.is_some(), "no arrow from {self:?} on {verdict:?}");
        next.unwrap_or(Stage::Refused)
    }
}
