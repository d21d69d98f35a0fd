//! Machines that meet over Reticulum only: real helpers, real interfaces on loopback.

mod common;

use std::net::{Ipv4Addr, UdpSocket};

use std::process::Command;
use std::time::{Duration, Instant};

use common::air::{
    ALONE, Rnsd, agree_slowly, client, config, listens, members, mesh, on_air, reports, server,
    tcp_port,
};
use common::data::noise;
use common::slow::SlowLink;
use common::{Machine, agree, temp, until};

/// A free UDP port.
fn udp_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn udp(listen: u16, forward: u16) -> String {
    format!(
        "[[Udp]]\ntype = UDPInterface\nenabled = Yes\nlisten_ip = 127.0.0.1\nlisten_port = {listen}\nforward_ip = 127.0.0.1\nforward_port = {forward}\n"
    )
}

/// Puts two machines on the air: one listens at a port, the other one connects to that or another one.
fn connect(a: &mut Machine, listen: u16, b: &mut Machine, target: u16) {
    let root = a.root.clone();
    on_air(a, &config(&root, "a", ALONE, &server(listen)), &[]);
    on_air(b, &config(&root, "b", ALONE, &client(target)), &[]);
}

/// Ends a machine's helper by SIGKILL. Gives its process id.
fn kill_helper(machine: &Machine) -> u64 {
    let mut pid = 0;
    until("a helper runs and is killed", || {
        pid = mesh(machine)["helper_pid"].as_u64().unwrap_or(0);
        // One that was told of may have been killed already.
        let kill = || Command::new("kill").args(["-9", &pid.to_string()]).output().unwrap();
        pid > 0 && kill().status.success()
    });
    pid
}

/// The same as [`until`], where a machine may take a minute to dial again.
#[track_caller]
fn slowly(what: &str, machines: &[&Machine], mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > Duration::from_secs(120) {
            panic!("still not: {what}\n{}", reports(machines));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn two_machines_over_tcp_end_identical() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    // Written while apart.
    let mut ids = a.write("apart", 200);
    ids.extend(b.write("apart", 200));
    let port = tcp_port();
    connect(&mut a, port, &mut b, port);
    agree_slowly(&[&a, &b]);
    // Written while linked, and when the link has ended again.
    ids.push(a.emit("while linked"));
    agree_slowly(&[&a, &b]);
    until("the peer is told of", || {
        let report = mesh(&b);
        report["peers"][0]["node"] == a.node() && report["peers"][0]["equal"] == true
    });
    ids.push(b.emit("again"));
    agree_slowly(&[&a, &b]);
    a.holds(&ids);
    b.holds(&ids);
    let synced = b.one(["sync", &a.node()]);
    assert_eq!((&synced["equal"], &synced["received_events"]), (&true.into(), &0.into()));
    a.verify_clean();
    b.verify_clean();
}

/// Who is to be connected to starts later.
#[test]
fn who_starts_first_waits_for_the_other() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    let ids = [a.emit("from a"), b.emit("from b")];
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    until("the helper of b runs", || mesh(&b)["address"].is_string());
    assert_eq!(mesh(&b)["interfaces"], serde_json::json!([]));
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    agree_slowly(&[&a, &b]);
    a.holds(&ids);
}

#[test]
fn two_machines_over_udp_end_identical() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let ids = a.write("apart", 100);
    let (first, second) = (udp_port(), udp_port());
    on_air(&mut a, &config(temp.path(), "a", ALONE, &udp(first, second)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &udp(second, first)), &[]);
    agree_slowly(&[&a, &b]);
    b.holds(&ids);
}

#[test]
fn a_killed_helper_is_started_again_and_sync_goes_on() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    connect(&mut a, port, &mut b, port);
    agree_slowly(&[&a, &b]);
    let before = kill_helper(&b);
    b.emit("without a helper");
    until("another helper runs", || {
        let now = mesh(&b)["helper_pid"].as_u64().unwrap_or(before);
        now != before && now != 0
    });
    agree_slowly(&[&a, &b]);
}

#[test]
fn two_hops_through_a_transport_of_python() {
    let temp = temp();
    let port = tcp_port();
    let forwards = "enable_transport = Yes\nshare_instance = No\n";
    let between = config(temp.path(), "between", forwards, &server(port));
    let Some(_rnsd) = Rnsd::start(&between) else { return };
    let (mut a, mut b) = members(temp.path());
    let ids = a.write("apart", 100);
    until("rnsd listens", || listens(port));
    on_air(&mut a, &config(temp.path(), "a", ALONE, &client(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    b.holds(&ids);
    until("two hops are told of", || mesh(&b)["peers"][0]["hops"].as_u64() >= Some(2));
}

#[test]
fn attached_to_a_running_rnsd() {
    let temp = temp();
    let port = tcp_port();
    // Whoever shares an instance finds it by its name.
    let settings =
        format!("enable_transport = Yes\nshare_instance = Yes\ninstance_name = quipu-{port}\n");
    let shared = config(temp.path(), "shared", &settings, &server(port));
    let Some(rnsd) = Rnsd::start(&shared) else { return };
    until("rnsd listens", || listens(port));
    let (mut a, mut b) = members(temp.path());
    let mut ids = a.write("apart", 50);
    ids.extend(b.write("apart", 50));
    on_air(&mut a, &shared, &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    let interfaces = mesh(&a)["interfaces"].clone();
    assert_eq!(interfaces.as_array().unwrap().len(), 1, "it runs none of its own: {interfaces}");
    assert!(interfaces[0]["name"].as_str().unwrap().contains("Local"), "{interfaces}");
    // Each change is announced; rnsd gives announces back to whoever made them.
    for round in 0..3 {
        ids.push(a.emit(&format!("a {round}")));
        ids.push(b.emit(&format!("b {round}")));
        agree_slowly(&[&a, &b]);
    }
    // Its first announce may have been made before the other one listened: there are more.
    slowly("a hears b", &[&a, &b], || mesh(&a)["peers"][0]["node"] == b.node());
    let report = mesh(&a);
    let peers = report["peers"].as_array().unwrap();
    let others = peers.iter().all(|peer| peer["address"] != report["address"]);
    assert!(others && peers.len() == 1, "{report}");
    // It may start again: nobody has to be told.
    drop(rnsd);
    ids.push(a.emit("without rnsd"));
    let _again = Rnsd::start(&shared).expect("it started before");
    until("rnsd listens again", || listens(port));
    agree_slowly(&[&a, &b]);
    a.holds(&ids);
    b.holds(&ids);
}

/// How long a photo may take that would take a minute on a link that is never cut.
const PHOTO_MAX: Duration = Duration::from_secs(300);

/// Writes a record on one machine. Gives how long it takes to be on the other.
fn travel_time(from: &Machine, to: &Machine, value: &str) -> Duration {
    from.one(["record", "set", "R-1", from.name, value]);
    let begin = Instant::now();
    while to.one(["record", "show", "R-1"])["fields"][from.name] != value {
        assert!(begin.elapsed() < PHOTO_MAX, "{value}: {}", mesh(to));
        std::thread::sleep(Duration::from_millis(50));
    }
    begin.elapsed()
}

#[test]
fn a_photo_on_a_slow_link_that_is_cut_ten_times() {
    const PHOTO_BYTES: u64 = 2_000_000;
    const CUTS: u64 = 10;
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    // 300 kbit/s each way: the photo alone is almost a minute.
    let slow = SlowLink::to(port, 37_500.0, Duration::from_millis(100));
    connect(&mut a, port, &mut b, slow.port);
    a.one(["record", "create", "R-1", "site"]);
    agree_slowly(&[&a, &b]);
    let photo = noise(7, usize::try_from(PHOTO_BYTES).unwrap());
    let (before, begin) = (slow.carried(), Instant::now());
    let key = a.key_of(&photo);
    let moved = |part: u64| {
        while slow.carried() - before < part {
            assert!(begin.elapsed() < PHOTO_MAX, "{part}: {} {}", slow.carried(), mesh(&b));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // While it moves, both write records.
    let mut times = Vec::new();
    for round in 1..=4 {
        moved(round * PHOTO_BYTES / 20);
        for (from, to) in [(&a, &b), (&b, &a)] {
            times.push(travel_time(from, to, &format!("r{round}")));
        }
    }
    assert!(!b.has(&key), "the photo was faster: this shows nothing");
    // The rest of it is in eleven pieces.
    let first = slow.carried() - before;
    for cut in 1..=CUTS {
        moved(first + cut * (PHOTO_BYTES - first) / (CUTS + 1));
        slow.cut();
    }
    assert!(!b.has(&key), "it was there before the last cut");
    while !b.has(&key) {
        assert!(begin.elapsed() < PHOTO_MAX, "{} {}", slow.carried(), mesh(&b));
        std::thread::sleep(Duration::from_millis(200));
    }
    let (took, carried) = (begin.elapsed(), slow.carried() - before);
    assert_eq!(b.get(&key), photo);
    let slowest = times.iter().max().unwrap();
    assert!(*slowest * 10 < took, "records took {times:?}, the photo {took:?}");
    assert!(carried * 10 < PHOTO_BYTES * 15, "{carried} bytes for {PHOTO_BYTES}");
    agree_slowly(&[&a, &b]);
}

#[test]
fn a_newcomer_joins_over_the_air() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let ids = a.write("before", 50);
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    // It hears both, and only the machine that invited it lets it in.
    let air = config(temp.path(), "c", ALONE, &client(port));
    let mut c = Machine::new("c", temp.path());
    let joined = c.one(["join", &a.ticket(), "--reticulum", air.to_str().unwrap()]);
    assert_eq!(joined["domain"], a.one(["id"])["domain"]);
    c.holds(&ids);
    c.verify_clean();
    // It is a member, and can write.
    let late = c.emit("from c");
    on_air(&mut c, &air, &[]);
    agree_slowly(&[&a, &b, &c]);
    b.holds(&[late]);
}

#[test]
fn a_published_log_is_followed_over_the_air() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let mut f = Machine::found("f", temp.path());
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    on_air(&mut f, &config(temp.path(), "f", ALONE, &client(port)), &[]);
    let publish = |bytes: &[u8]| {
        let key = a.key_of(bytes);
        a.one(["publish", &key]);
        key
    };
    let first = publish(&noise(1, 3_000));
    a.emit("nobody's business but ours");
    let domain = a.one(["id"])["domain"].as_str().unwrap().to_owned();
    let ticket = a.ready["follow_ticket"].as_str().unwrap();
    let followed = f.one(["follow", ticket]);
    assert_eq!(followed["domain"], domain.as_str());
    let published = |machine: &Machine| {
        let rows = machine.run(["domains"]);
        rows.into_iter().find(|row| row["domain"] == domain.as_str()).unwrap_or_default()
    };
    let level = |machine: &Machine| published(&a)["digest"] == published(machine)["digest"];
    // A member keeps its domain's published log as well. Nobody asks for anything.
    slowly("a member has what is published", &[&a, &b], || level(&b));
    slowly("a follower has what is published", &[&a, &f], || level(&f));
    let second = publish(&noise(2, 3_000));
    slowly("what is published later comes by itself", &[&a, &b, &f], || level(&b) && level(&f));
    assert_eq!(f.run(["--of", &domain, "published"]).len(), 2);
    for key in [&first, &second] {
        slowly("the bytes are there", &[&a, &f], || f.try_run(["import", &domain, key]).code == 0);
    }
    assert_eq!(f.get(&second), noise(2, 3_000));
    // What is not published stays where it is, and machines of other domains are no peers.
    assert!(f.run(["log"]).iter().all(|event| event["domain"] != domain.as_str()));
    let rows = mesh(&f)["peers"].as_array().unwrap().clone();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["equal"].is_null()), "{rows:?}");
}

#[test]
fn the_air_is_used_when_the_wire_is_dead_and_left_when_it_is_back() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    let (air_a, air_b) = (
        config(temp.path(), "a", ALONE, &server(port)),
        config(temp.path(), "b", ALONE, &client(port)),
    );
    let on = |machine: &mut Machine, config: &std::path::Path| {
        machine.serve_with(&["--reticulum", config.to_str().unwrap()]);
    };
    common::air::helper();
    on(&mut a, &air_a);
    on(&mut b, &air_b);
    let peer = |machine: &Machine| mesh(machine)["peers"][0].clone();
    let only_wire = |a: &Machine, b: &Machine| {
        slowly("both know that the wire is there", &[a, b], || {
            [a, b].iter().all(|m| peer(m)["by_wire"] == true && peer(m)["link"] == "none")
        });
    };
    only_wire(&a, &b);
    // Much is written, and nothing of it goes over the air.
    let heard = |machine: &Machine| -> u64 {
        let all = mesh(machine)["interfaces"].as_array().unwrap().clone();
        all.iter().filter_map(|one| one["received_bytes"].as_u64()).sum()
    };
    let before = heard(&b);
    a.write("by wire", 2_000);
    agree(&[&a, &b]);
    std::thread::sleep(Duration::from_secs(6));
    let announces = heard(&b) - before;
    assert!(announces < 5_000, "{announces} bytes over the air");
    assert_eq!(peer(&b)["link"], "none");
    // The wire is dead: the addresses that b knows lead nowhere.
    a.stop();
    on_air(&mut a, &air_a, &[]);
    let ids = a.write("over the air", 20);
    agree_slowly(&[&a, &b]);
    b.holds(&ids);
    assert_eq!(b.one(["sync", &a.node()])["equal"], true, "also if somebody asks for it");
    assert_eq!(peer(&b)["by_wire"], false);
    // It is back.
    a.stop();
    on(&mut a, &air_a);
    only_wire(&a, &b);
    a.emit("by wire again");
    agree(&[&a, &b]);
    assert_eq!(peer(&b)["link"], "none");
}

#[test]
fn what_is_wrong_is_said() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ran = a.try_run(["mesh", "status"]);
    assert!(ran.fails(4).contains("--reticulum"), "{}", ran.stderr);
    let ran = a.try_run(["serve", "--reticulum", "x", "--airtime-percent", "200"]);
    assert!(ran.fails(2).contains("percentage"), "{}", ran.stderr);
    // A configuration that is not there: the machine serves all the same, and says so.
    let missing = temp.path().join("nothing");
    on_air(&mut a, &missing, &[]);
    until("the trouble is told of", || {
        mesh(&a)["trouble"].as_str().is_some_and(|why| why.contains("no Reticulum configuration"))
    });
    a.emit("all the same");
}
