//! Three domains, three machines, three processes: publishing, following, importing (DOM-1..DOM-9).

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use common::data::{noise, refused, text, texts};
use common::published::{digest_of, follow_ticket, id_of, ticket_for, within};
use common::{Machine, agree, files_under, temp, until};
use quipu_core::blind::Opening;
use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, NodeKey};
use quipu_core::node::{Command, Input, LinkId};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_node::home::Home;
use quipu_node::service::SystemClock;
use quipu_node::{Driver, Links};
use quipu_store::{RealDisk, StoreOptions};
use serde_json::{Value, json};

/// What a note of A says that is for nobody else.
const SECRET: &str = "the well behind the old mill is dry";

/// What of A's secrets its files have as they are: the note, the hashes and the bytes of eight artifacts.
/// Ids of events are computed anew.
const SECRETS_ON_DISK: usize = 1 + 8 + 8;
/// What a packed part of a frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A machine with a domain of its own that serves. Answers the ticket for other domains.
fn domain(name: &'static str, root: &Path) -> (Machine, String) {
    let mut machine = Machine::found(name, root);
    machine.record_frames();
    machine.serve();
    let ticket = follow_ticket(&machine);
    (machine, ticket)
}

fn published_digest(machine: &Machine) -> String {
    text(&machine.status(), "published_digest")
}

/// A row of `domains`.
fn kept(machine: &Machine, domain: &str) -> Value {
    let rows = machine.run(["domains"]);
    rows.into_iter().find(|row| row["domain"] == domain).unwrap_or(Value::Null)
}

/// The last row of a listing about the published log of a domain.
fn of(machine: &Machine, domain: &str, command: &str) -> Vec<Value> {
    machine.run(["--of", domain, command])
}

/// Some bytes out of the middle of an artifact of the chain.
fn middle_of(n: u64) -> Vec<u8> {
    noise(1_000 + n, 20_000 + n as usize)[10_100..10_200].to_vec()
}

/// All that one machine sent to others or had from them, as it was sent and with packed parts unpacked.
fn said(machine: &Machine, mut with: impl FnMut(&str) -> bool) -> Vec<u8> {
    let mut all = Vec::new();
    for (key, frame) in machine.frames() {
        if with(&key) {
            let packed = (0..frame.len()).filter(|at| frame[*at..].starts_with(&ZSTD_MAGIC));
            for at in packed {
                let mut decoder = zstd::stream::Decoder::new(&frame[at..]).unwrap().single_frame();
                drop(decoder.read_to_end(&mut all));
            }
            all.extend(frame);
        }
    }
    all
}

/// These things are on the owner's disk, and neither on the others' disks nor in any frame.
fn nothing_of(needles: &[Vec<u8>], owner: &Machine, others: &[&Machine]) {
    let on = |machine: &Machine| -> Vec<Vec<u8>> {
        let files = files_under(&machine.dir);
        files.iter().map(|file| std::fs::read(file).unwrap_or_default()).collect()
    };
    let files = on(owner);
    let found = |needle: &&Vec<u8>| files.iter().any(|file| within(file, needle));
    let count = needles.iter().filter(found).count();
    assert!(count >= SECRETS_ON_DISK, "the search finds what is there: {count}");
    for machine in others {
        let bytes = on(machine).concat();
        for needle in needles {
            assert!(!within(&bytes, needle), "{}'s disk has {needle:02x?}", machine.name);
        }
    }
    for machine in [&[owner], others].concat() {
        let bytes = said(machine, |_| true);
        assert!(!bytes.is_empty());
        for needle in needles {
            assert!(!within(&bytes, needle), "{}'s frames have {needle:02x?}", machine.name);
        }
    }
}

/// Ten artifacts, each derived from the one before.
fn chain(machine: &Machine) -> Vec<String> {
    let bytes = |n: u64| noise(1_000 + n, 20_000 + n as usize);
    let keys: Vec<String> =
        (0..10).map(|n| text(&machine.put(&bytes(n), Some(&format!("t{n}"))), "key")).collect();
    for pair in keys.windows(2) {
        machine.edge(&[&pair[0]], &[&pair[1]], "derived");
    }
    keys
}

#[test]
fn from_a_through_b_to_c() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let (b, _) = domain("b", temp.path());
    let (c, _) = domain("c", temp.path());
    let [at_a, at_b] = [&a, &b].map(id_of);
    let keys = chain(&a);
    a.emit(SECRET);
    let rows = a.run(["publish", &keys[3], &keys[7], "--with-lineage"]);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["snapshot"] == rows[0]["snapshot"]), "{rows:?}");
    let states = texts(&a.run(["artifacts"]), "state");
    assert_eq!(states.iter().filter(|state| *state == "published").count(), 2);

    let kinds: BTreeSet<String> = texts(&of(&a, &at_a, "log"), "kind").into_iter().collect();
    let expected = ["domain.create", "artifact.put", "edge.add", "snapshot.create"];
    assert_eq!(kinds, expected.map(str::to_owned).into());

    let followed = b.one(["follow", &ticket]);
    assert_eq!((&followed["domain"], &followed["artifacts"]), (&at_a.as_str().into(), &2.into()));
    assert_eq!(text(&followed, "digest"), published_digest(&a));
    let imported = b.one(["import", &at_a, &keys[7]]);
    assert_eq!((&imported["state"], &imported["have"]), (&"imported".into(), &true.into()));
    assert_eq!(imported["origin_snapshot"], rows[0]["snapshot"]);
    assert!(b.get(&keys[7]) == noise(1_007, 20_007));

    // What B makes of it, and publishes.
    let result = b.key_of(b"what B found out");
    b.edge(&[&keys[7]], &[&result], "used");
    b.run(["publish", &result, "--with-lineage"]);
    c.one(["follow", &follow_ticket(&b)]);
    c.one(["import", &at_b, &result]);
    assert!(c.get(&result) == b"what B found out");
    let trace = c.one(["trace", &result, "--up"]);
    let nodes = trace["nodes"].as_array().unwrap();
    let origin = nodes.iter().find(|node| node["id"] == keys[7].as_str()).expect("A's artifact");
    assert_eq!(origin["domain"], at_a.as_str(), "{origin}");
    assert_eq!(origin["origin_snapshot"], rows[0]["snapshot"]);

    // C gets A's published log through B, to the byte, and the same state root.
    c.one(["follow", &ticket_for(&b, &at_a)]);
    let roots: Vec<String> = [&a, &b, &c]
        .map(|machine| text(of(machine, &at_a, "snapshots").last().unwrap(), "root"))
        .to_vec();
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    let digests = [&a, &b, &c].map(|machine| text(&kept(machine, &at_a), "digest"));
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    let show = ["--of", &at_a, "snapshot", "show", rows[0]["snapshot"].as_str().unwrap()];
    assert_eq!(c.one(show)["verified"], true);

    // What A did not publish is not there, for nobody and by no command.
    for (machine, other) in [(&b, &keys[2]), (&c, &keys[2]), (&c, &keys[9])] {
        refused(&machine.try_run(["import", &at_a, other]), 4, &["published no artifact"]);
        refused(&machine.try_run(["get", other, "-o", "out"]), 4, &[other]);
        refused(&machine.try_run(["--of", &at_a, "get", other, "-o", "out"]), 4, &[other]);
    }
    let internal = [&[&keys[..3], &keys[4..7], &keys[8..]].concat()[..], &a.log_ids()[..]].concat();
    let mut needles: Vec<Vec<u8>> = vec![SECRET.into()];
    for id in internal.iter().filter(|id| **id != at_a) {
        needles.extend([digest_of(id), id.as_bytes().to_vec()]);
    }
    let unpublished = |n: &u64| ![3, 7].contains(n);
    needles.extend((0..10).filter(unpublished).map(middle_of));
    nothing_of(&needles, &a, &[&b, &c]);
    let shown = [digest_of(&keys[3]), middle_of(7), b"t7".to_vec()];
    for (machine, peer) in [(&a, &b), (&b, &c)] {
        let node = peer.node();
        let frames = said(machine, |key| key == node);
        assert!(
            shown.iter().all(|needle| within(&frames, needle)),
            "the search finds what is there"
        );
    }
    for machine in [&a, &b, &c] {
        machine.verify_clean();
    }
}

#[test]
fn what_is_published_later_arrives() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let (b, _) = domain("b", temp.path());
    let at_a = id_of(&a);
    let first = a.key_of(b"first");
    a.run(["publish", &first]);
    b.one(["follow", &ticket]);
    let second = a.key_of(b"second");
    a.run(["publish", &second]);
    until("the second publication arrives", || kept(&b, &at_a)["artifacts"] == 2);
    until("its bytes arrive", || of(&b, &at_a, "published").iter().all(|row| row["have"] == true));
    assert_eq!(text(&kept(&b, &at_a), "digest"), published_digest(&a));
}

#[test]
fn members_of_one_domain_share_what_it_published_and_follows() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut d = Machine::joined("d", temp.path(), &invitation);
    d.serve();
    let (b, ticket) = domain("b", temp.path());
    let (at_a, at_b) = (id_of(&a), id_of(&b));
    // The other machine of the domain is no publisher yet.
    let key = d.key_of(b"from the other machine");
    until("the claim arrives", || a.artifact(&key).is_some());
    a.run(["publish", &a.key_of(b"from the founder")]);
    until("the published log arrives", || published_digest(&d) == published_digest(&a));
    let node = d.node();
    refused(&d.try_run(["publish", &key]), 3, &["may not write to the published log", &node]);
    a.one(["publisher", "add", &node]);
    until("d may publish", || d.try_run(["publish", &key]).code == 0);
    until("both are level", || published_digest(&d) == published_digest(&a));
    assert_eq!(a.run(["published"]).len(), 2);
    // And not any more.
    a.one(["publisher", "remove", &node]);
    until("d may not publish", || {
        let other = d.key_of(b"another");
        d.try_run(["publish", &other]).code == 3
    });

    // What one machine follows, the others keep, too.
    b.run(["publish", &b.key_of(b"by B")]);
    a.one(["follow", &ticket]);
    until("the other machine follows", || kept(&d, &at_b)["digest"] == kept(&b, &at_b)["digest"]);
    let agreed = agree(&[&a, &d]);
    assert_eq!(agreed["domain"], at_a.as_str());
}

#[test]
fn what_is_published_stays() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let (b, _) = domain("b", temp.path());
    let at_a = id_of(&a);
    let key = text(&a.put(b"for ever", Some("text/plain")), "key");
    let published = a.one(["publish", &key]);
    b.one(["follow", &ticket]);
    b.one(["import", &at_a, &key]);
    let before = published_digest(&a);

    // Again is the same, and nothing new.
    let again = a.one(["publish", &key]);
    assert_eq!((&again["snapshot"], &again["new"]), (&published["snapshot"], &false.into()));
    assert_eq!(published_digest(&a), before);

    refused(&a.try_run(["unpublish", &key]), 3, &["stays published"]);
    let file = a.file("same", b"for ever");
    let other = ["put", file.to_str().unwrap(), "--type", "image/png"];
    refused(&a.try_run(other), 3, &[&key, "published"]);
    for event in of(&a, &at_a, "log") {
        let uuid = text(&event, "uuid");
        let erase = a.try_run(["erase", &uuid, "--reason", "regret"]);
        assert!([3, 4].contains(&erase.code), "{}", erase.stderr);
    }
    for kind in ["publisher.add", "artifact.publish", "publication.record", "domain.follow"] {
        refused(&a.try_run(["emit", kind, "{}"]), 3, &["reserved"]);
    }

    // A tombstone hides it here, and only here.
    a.one(["tombstone", &key]);
    assert!(!a.run(["current"]).iter().any(|row| row["key"] == key.as_str()));
    assert_eq!(a.one(["published"])["hidden"], true);
    assert_eq!(a.one(["gc"])["freed"], json!([]));
    assert_eq!(published_digest(&a), before);
    assert!(b.get(&key) == b"for ever");
    let current = b.run(["current"]);
    let row = current.iter().find(|row| row["key"] == key.as_str()).expect("B has imported it");
    assert_eq!((&row["state"], &row["origin_domain"]), (&"imported".into(), &at_a.as_str().into()));
}

#[test]
fn access_for_some_only() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let (b, _) = domain("b", temp.path());
    let (c, _) = domain("c", temp.path());
    let (d, _) = domain("d", temp.path());
    let at_a = id_of(&a);
    a.run(["publish", &a.key_of(b"for B alone")]);
    a.one(["publisher", "access", "--nodes", &b.node()]);
    b.one(["follow", &ticket]);
    let turned_away =
        refused(&c.try_run(["follow", &ticket]), 5, &["nothing of the published log"]);
    assert_eq!(kept(&c, &at_a), Value::Null, "nothing is left of the attempt");
    // The same answer as from a machine that has nothing of that domain at all.
    let elsewhere = text(&c.run(["domains"])[0], "ticket");
    let nothing = b.try_run(["follow", &elsewhere]);
    let message = |error: &Value| text(error, "error").replace(&at_a, "DOMAIN");
    let nothing = refused(&nothing, 5, &["nothing of the published log"]);
    assert_eq!(
        message(&turned_away),
        text(&nothing, "error").replace(&id_of(&c), "DOMAIN"),
        "nobody can tell hidden from absent"
    );
    // B, which may read it, does not pass it on to C.
    refused(&c.try_run(["follow", &ticket_for(&b, &at_a)]), 5, &["nothing of the published log"]);
    // C's domain is let in by its own name, once A knows who speaks for it.
    let at_c = id_of(&c);
    a.one(["publisher", "access", "--domains", &at_c]);
    refused(&c.try_run(["follow", &ticket]), 5, &["nothing of the published log"]);
    c.run(["publish", &c.key_of(b"by C")]);
    a.one(["follow", &follow_ticket(&c)]);
    c.one(["follow", &ticket]);
    refused(&d.try_run(["follow", &ticket]), 5, &["nothing of the published log"]);
    a.one(["publisher", "access", "--open"]);
    until("everybody may read", || d.try_run(["follow", &ticket]).code == 0);
}

/// Who is removed from a domain that was let in to a published log reads on neither here nor there.
#[test]
fn a_removed_member_is_not_let_in_any_more() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let mut b = Machine::found("b", temp.path());
    let invitation = b.serve();
    let mut d = Machine::joined("d", temp.path(), &invitation);
    d.serve();
    let at_a = id_of(&a);
    a.run(["publish", &a.key_of(b"first")]);
    a.one(["publisher", "access", "--nodes", &b.node()]);
    b.one(["follow", &ticket]);
    until("the member has it", || kept(&d, &at_a)["artifacts"] == 1);
    until("it stays linked", || kept(&d, &at_a)["digest"] == kept(&b, &at_a)["digest"]);
    b.one(["member", "remove", &d.node()]);
    a.run(["publish", &a.key_of(b"second")]);
    until("those who may read have it", || kept(&b, &at_a)["artifacts"] == 2);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(kept(&d, &at_a)["artifacts"], 1, "what it has stays, and that is all");
}

/// Nobody is linked.
struct NoLinks;

impl Links for NoLinks {
    fn send(&mut self, _link: LinkId, _bytes: Vec<u8>) {}
    fn close(&mut self, _link: LinkId, _reason: &str) {}
}

/// Appends what no command would say to the published log of a machine that is stopped.
fn say_in_published(machine: &Machine, statements: Vec<Statement>) {
    let home = Home::open(&machine.dir).unwrap();
    let domain = home.domain().unwrap();
    let disk = Arc::new(RealDisk::new(home.published_dir(&domain)).unwrap());
    let (of, key) = ((domain, Log::Published), home.key().unwrap());
    let options = StoreOptions::default();
    let (mut driver, _) =
        Driver::open(disk, of, key, [7; 32], SystemClock, NoLinks, options).unwrap();
    driver.input(Input::Local { request: 1, command: Command::Say(statements) }).unwrap();
    let outcome = driver.finish_turn().unwrap();
    assert!(matches!(&outcome.replies[..], [(1, Ok(_))]), "{:?}", outcome.replies);
}

#[test]
fn a_false_state_root_is_found_by_followers() {
    let temp = temp();
    let (mut a, _) = domain("a", temp.path());
    let (b, _) = domain("b", temp.path());
    let at_a = id_of(&a);
    let honest = a.key_of(b"honest");
    a.run(["publish", &honest]);
    let key = a.key_of(b"under a false root");
    a.stop();
    let claim = Claim { key: key.parse().unwrap(), size: 18, type_tag: None };
    let root = Statement::Snapshot { root: [9; 32], entries: 2, name: None };
    say_in_published(&a, vec![Statement::Put(claim), root]);
    a.serve();
    let ticket = follow_ticket(&a);
    refused(&b.try_run(["follow", &ticket]), 3, &["state root", &a.node()]);
    refused(&b.try_run(["import", &at_a, &key]), 3, &["state root", &a.node()]);
    assert!(!b.run(["artifacts"]).iter().any(|row| row["key"] == key.as_str()));
    // What stands in a snapshot before it can still be had.
    assert_eq!(b.one(["import", &at_a, &honest])["have"], true);
    assert!(b.get(&honest) == b"honest");
}

#[test]
fn commitments_are_opened_by_their_owner_only() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let (b, _) = domain("b", temp.path());
    let at_a = id_of(&a);
    let keys = chain(&a);
    a.run(["publish", &keys[1], "--with-lineage"]);
    b.one(["follow", &ticket]);
    let edges = of(&b, &at_a, "edges");
    let commitment = edges[0]["from"][0].as_str().unwrap().to_owned();
    assert!(commitment.starts_with("blinded:"), "{commitment}");
    refused(&b.try_run(["commitment", "open", &commitment]), 4, &["made no commitment"]);
    let opened = a.one(["commitment", "open", &commitment]);
    assert_eq!(opened["end"], keys[0].as_str());
    let nonce = text(&opened, "nonce");
    let check = |end: &str| {
        b.try_run(["commitment", "check", &commitment, "--end", end, "--nonce", &nonce]).code
    };
    assert_eq!((check(&keys[0]), check(&keys[1])), (0, 1));
    // The next publication has another commitment to the same thing.
    let other = a.key_of(b"made of the same thing");
    a.edge(&[&keys[0]], &[&other], "derived");
    a.run(["publish", &other, "--with-lineage"]);
    until("the second publication arrives", || of(&b, &at_a, "edges").len() == 2);
    let ends = of(&b, &at_a, "edges");
    let blinded: std::collections::BTreeSet<String> = ends
        .iter()
        .flat_map(|edge| edge["from"].as_array().unwrap().clone())
        .filter_map(|end| Some(end.as_str()?.to_owned()))
        .filter(|end| end.starts_with("blinded:"))
        .collect();
    assert_eq!(blinded.len(), 2, "{ends:?}");
}

/// Lineage is told once. Once more of it may be named, it is told again.
#[test]
fn lineage_again_is_nothing_new() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let at_a = id_of(&a);
    let keys = chain(&a);
    let publish = |key: &String| a.one(["publish", key, "--with-lineage"]);
    let edges = || texts(&of(&a, &at_a, "edges"), "uuid").len();
    let first = publish(&keys[3]);
    assert_eq!(edges(), 3);
    let digest = published_digest(&a);
    let again = publish(&keys[3]);
    assert_eq!((&again["snapshot"], &again["new"]), (&first["snapshot"], &false.into()));
    assert_eq!((published_digest(&a), edges()), (digest, 3));
    // What led to this one is told with its name now.
    publish(&keys[1]);
    assert_eq!(edges(), 4);
}

/// What a machine notes before it publishes is remembered, if it stops right after having published.
#[test]
fn a_stop_within_a_publication_loses_no_opening() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let keys = chain(&a);
    a.one(["publish", &keys[5], "--with-lineage"]);
    let [hidden, shown] = [&keys[0], &keys[1]].map(|key| key.parse::<ArtifactId>().unwrap());
    let opening = |nonce| Opening { nonce: [nonce; 32], end: End::Artifact(hidden) };
    let (told, untold) = (opening(7), opening(8));
    let note = |openings: &[Opening]| {
        let openings = openings.iter().map(
            |one| json!({ "end": one.end.to_string(), "nonce": NodeKey(one.nonce).to_string() }),
        );
        let note = json!({ "keys": [keys[1], keys[2]], "openings": openings.collect::<Vec<_>>() });
        std::fs::write(a.dir.join(".quipu/publication.json"), note.to_string()).unwrap();
    };
    // It stopped before it published anything: nothing is to be remembered.
    note(&[told, untold]);
    let commitment = |one: &Opening| one.commitment().to_string();
    refused(&a.try_run(["commitment", "open", &commitment(&told)]), 4, &["made no commitment"]);
    assert!(!a.dir.join(".quipu/publication.json").exists());
    // And after.
    note(&[told, untold]);
    let from = vec![End::Blinded(told.commitment())];
    let edge = EdgeKey::new(from, vec![End::Artifact(shown)], "derived").unwrap();
    let put = Statement::Put(Claim { key: shown, size: 20_001, type_tag: Some("t1".into()) });
    say_in_published(&a, vec![put, Statement::Edge(edge, EdgeRole::Both)]);
    assert_eq!(a.one(["commitment", "open", &commitment(&told)])["end"], keys[0].as_str());
    refused(&a.try_run(["commitment", "open", &commitment(&untold)]), 4, &["made no commitment"]);
    let state = |key: &String| text(&a.artifact(key).unwrap(), "state");
    assert_eq!((state(&keys[1]).as_str(), state(&keys[2]).as_str()), ("published", "internal"));
    let edges = of(&a, &id_of(&a), "edges").len();
    a.one(["publish", &keys[1], "--with-lineage"]);
    assert_eq!(of(&a, &id_of(&a), "edges").len(), edges, "its lineage is told already");
}

#[test]
fn wrong_inputs() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let b = Machine::found("b", temp.path());
    refused(&a.try_run(["follow", &ticket]), 3, &["own domain"]);
    refused(&a.try_run(["follow", "quipu1nonsense"]), 3, &["ticket"]);
    refused(&a.try_run(["publish", &"b".repeat(30)]), 4, &["no artifact"]);
    refused(&a.try_run(["import", "nobody", &"b".repeat(30)]), 4, &["no published log"]);
    refused(&a.try_run(["--of", "nobody", "artifacts"]), 4, &["no published log"]);
    refused(&a.try_run(["--of", "a", "emit", "app.note", "{}"]), 2, &["--of"]);
    assert_eq!(a.run(["published"]), Vec::<Value>::new());
    // Without the bytes there is nothing to publish; with a conflict nobody knows what.
    let key = a.key_of(b"contested");
    let file = a.file("contested", b"contested");
    a.run(["put", file.to_str().unwrap(), "--type", "one"]);
    a.run(["put", file.to_str().unwrap(), "--type", "two"]);
    refused(&a.try_run(["publish", &key]), 3, &["disagree", "conflicts resolve"]);
    // Nothing was published, so there is nothing to follow; and nobody is there after that.
    drop(a);
    refused(&b.try_run(["follow", &ticket]), 5, &[]);
    assert_eq!(b.run(["domains"]).len(), 1);
}

#[test]
fn a_damaged_published_log_is_noticed_and_comes_again() {
    let temp = temp();
    let (a, ticket) = domain("a", temp.path());
    let b = Machine::found("b", temp.path());
    let at_a = id_of(&a);
    // What is written at once and at the end may be torn; what others follow is damaged.
    for n in 0..5 {
        a.run(["publish", &a.key_of(format!("number {n}").as_bytes())]);
        b.one(["follow", &ticket]);
    }
    b.emit("B's own");
    let report = b.one(["verify"]);
    assert_eq!(report["published_events"], kept(&b, &at_a)["events"]);
    let files = files_under(&b.dir.join(".quipu/domains").join(&at_a).join("published"));
    let active = files.iter().max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(active).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(active, bytes).unwrap();
    // The rest of the machine works, and says what does not.
    assert_eq!(b.run(["log", "--kind", "app.note"]).len(), 1);
    let ran = b.try_run(["verify"]);
    assert!(ran.code == 1 && ran.stdout.contains(&at_a), "{} {}", ran.stdout, ran.stderr);
    let rebuilt = b.try_run(["verify", "--rebuild"]);
    assert!([0, 1].contains(&rebuilt.code), "{}", rebuilt.stderr);
    b.verify_clean();
    b.one(["follow", &ticket]);
    assert_eq!(kept(&b, &at_a)["digest"], a.status()["published_digest"]);
    b.verify_clean();
}
