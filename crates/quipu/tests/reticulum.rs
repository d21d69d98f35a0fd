//! Machines that meet over Reticulum only: real helpers, real interfaces on loopback.

mod common;

use std::net::{Ipv4Addr, UdpSocket};

use std::process::Command;
use std::time::{Duration, Instant};

use common::air::{ALONE, Rnsd, client, config, members, on_air, server, tcp_port};
use common::data::noise;
use common::{Machine, agree, temp, until};
use serde_json::Value;

/// A free UDP port.
fn udp_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn udp(listen: u16, forward: u16) -> String {
    format!(
        "[[Udp]]\ntype = UDPInterface\nenabled = Yes\nlisten_ip = 127.0.0.1\nlisten_port = {listen}\nforward_ip = 127.0.0.1\nforward_port = {forward}\n"
    )
}

fn mesh(machine: &Machine) -> Value {
    machine.one(["mesh", "status"])
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
fn slowly(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "still not: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Agreement for machines whose announces come only now and then.
#[track_caller]
fn agree_slowly(machines: &[&Machine]) {
    let start = Instant::now();
    while machines.windows(2).any(|pair| pair[0].digest() != pair[1].digest()) {
        if start.elapsed() > Duration::from_secs(90) {
            let reports: Vec<String> = machines.iter().map(|m| mesh(m).to_string()).collect();
            let logs: Vec<String> = machines.iter().map(|m| m.daemon_log()).collect();
            panic!("no agreement\n{}\n{}", reports.join("\n"), logs.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    agree(machines);
}

#[test]
fn two_machines_over_tcp_end_identical() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    // Written while apart.
    let mut ids = a.write("apart", 200);
    ids.extend(b.write("apart", 200));
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
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
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
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
    until("rnsd listens", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    on_air(&mut a, &config(temp.path(), "a", ALONE, &client(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    b.holds(&ids);
    until("two hops are told of", || mesh(&b)["peers"][0]["hops"].as_u64() >= Some(2));
}

#[test]
fn a_record_does_not_wait_for_an_artifact() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    let photo = noise(7, 2_000_000);
    let key = a.key_of(&photo);
    until("b knows of the photo", || b.artifact(&key).is_some());
    let record = a.emit("more urgent");
    until("the record is there", || b.log_ids().contains(&record));
    assert!(!b.has(&key), "the photo was faster: this shows nothing");
    until("the photo is there", || b.has(&key));
    assert_eq!(b.get(&key), photo);
}

#[test]
fn an_artifact_survives_ten_cuts() {
    let temp = temp();
    let (mut a, mut b) = members(temp.path());
    let port = tcp_port();
    on_air(&mut a, &config(temp.path(), "a", ALONE, &server(port)), &[]);
    on_air(&mut b, &config(temp.path(), "b", ALONE, &client(port)), &[]);
    agree_slowly(&[&a, &b]);
    let photo = noise(8, 2_000_000);
    let key = a.key_of(&photo);
    for cut in 0..10 {
        std::thread::sleep(Duration::from_millis(700));
        kill_helper(if cut % 2 == 0 { &a } else { &b });
    }
    let start = Instant::now();
    while !b.has(&key) {
        assert!(start.elapsed() < Duration::from_secs(240), "{}", mesh(&b));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(b.get(&key), photo);
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
    slowly("a member has what is published", || level(&b));
    slowly("a follower has what is published", || level(&f));
    let second = publish(&noise(2, 3_000));
    slowly("what is published later comes by itself", || level(&b) && level(&f));
    assert_eq!(f.run(["--of", &domain, "published"]).len(), 2);
    for key in [&first, &second] {
        slowly("the bytes are there", || f.try_run(["import", &domain, key]).code == 0);
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
        slowly("both know that the wire is there", || {
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
