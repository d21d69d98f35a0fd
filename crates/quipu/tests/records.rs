//! Records as a user sees them, and meshlogd's files and clients.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::data::{arg, noise, text};
use common::tools::{installed, repository};
use common::{Machine, agree, finish, meshlogd, temp, uuid};
use serde_json::{Value, json};

/// Runs a command of which the output is not NDJSON.
#[track_caller]
fn raw(machine: &Machine, arguments: &[&str]) -> String {
    let mut command = machine.command();
    command.args(arguments);
    let ran = finish(command, b"");
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran.stdout
}

fn record(machine: &Machine, arguments: &[&str]) -> Value {
    let mut all = vec!["record"];
    all.extend(arguments);
    machine.one(all)
}

#[test]
fn a_record_in_all_forms() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let created = record(&a, &["create", "R-1", "site"]);
    assert_eq!(created["record_id"], "R-1");
    for (field, value) in
        [("people", "12"), ("name", "Brücke, \"alt\""), ("gps", r#"{"lat":1.5,"lon":-2}"#)]
    {
        record(&a, &["set", "R-1", field, value]);
    }
    record(&a, &["set", "R-1", "number", "007", "--text"]);
    record(&a, &["set", "R-1", "code", "12", "--text"]);
    record(&a, &["set", "R-1", "odd", "007"]);
    record(&a, &["note", "R-1", "-1 and so on"]);
    let photo = a.file("photo.jpg", b"not a photo");
    let attached = record(&a, &["attach", "R-1", "photo", arg(&photo)]);
    let node = text(&a.one(["id"]), "node");
    let expected = json!({
        "record_id": "R-1", "form": "site", "created_by": node,
        "fields": {
            "people": 12, "name": "Brücke, \"alt\"", "gps": { "lat": 1.5, "lon": -2 },
            "number": "007", "code": "12", "odd": "007",
        },
        "attachments": [{
            "field": "photo", "blob_hash": attached["key"], "size": 11, "mime": "image/jpeg",
        }],
        "notes": ["-1 and so on"],
    });
    assert_eq!(record(&a, &["show", "R-1"]), expected);
    assert_eq!(a.run(["records"])[..], *std::slice::from_ref(&expected));
    assert_eq!(a.get(&text(&attached, "key")), b"not a photo");
    record(&a, &["create", "R-2", "well"]);
    assert_eq!(a.run(["records", "--form", "site"]), [expected]);
    assert_eq!(a.run(["records", "--form", "none"]), Vec::<Value>::new());
    // For people, for spreadsheets, for maps.
    let table = raw(&a, &["records"]);
    assert!(table.contains("people=12") && table.contains("R-2"), "{table}");
    let csv = raw(&a, &["records", "--format", "csv"]);
    assert_eq!(csv, raw(&a, &["export", "--format", "csv"]));
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("record_id,form,created_by,code,gps,name,"), "{csv}");
    assert!(lines[1].contains("\"Brücke, \"\"alt\"\"\"") && lines.len() == 3, "{csv}");
    let map: Value = serde_json::from_str(&raw(&a, &["records", "--format", "geojson"])).unwrap();
    assert_eq!(map["type"], "FeatureCollection");
    assert_eq!(
        map["features"][0]["geometry"],
        json!({ "type": "Point", "coordinates": [-2.0, 1.5] })
    );
    assert_eq!(map["features"][1]["geometry"], Value::Null);
    let by_field = raw(&a, &["records", "--format", "geojson", "--point", "name"]);
    assert!(!by_field.contains("Point"), "{by_field}");
    a.try_run(["records", "--lat", "x"]).fails(2);
    assert!(a.try_run(["record", "show", "R-9"]).fails(4).contains("R-9"));
}

#[test]
fn a_gis_library_opens_the_map() {
    let Some(place) = installed("gis", "tests/tools/setup") else { return };
    let temp = temp();
    let a = Machine::found("a", temp.path());
    // GDAL takes names like these for signs of another format, JSON-FG, if they are written as they are.
    let point = r#"{"type":"Point","coordinates":[16.37,48.21,171.5]}"#;
    record(&a, &["create", "R-1", "well"]);
    record(&a, &["set", "R-1", "place", point]);
    record(&a, &["set", "R-1", "time", r#"{"date":"2026-11-22"}"#]);
    record(&a, &["set", "R-1", "said", r#""a \"place\":{\"type\": in a text""#]);
    record(&a, &["create", "R-2", "site"]);
    record(&a, &["set", "R-2", "lat", "-33.5"]);
    record(&a, &["set", "R-2", "lon", "151.25"]);
    record(&a, &["create", "R-3", "nowhere"]);
    let map = raw(&a, &["records", "--format", "geojson"]);
    let read: Value = serde_json::from_str(&map).unwrap();
    let shown = record(&a, &["show", "R-1"]);
    assert_eq!(read["features"][0]["properties"]["fields"], shown["fields"]);
    // Opened as users open it: by its name, without saying what it is.
    let mut python = Command::new(place.join("bin/python"));
    python.arg(repository().join("tests/tools/read_map.py"));
    python.arg(a.file("map.geojson", map.as_bytes()));
    let ran = finish(python, b"");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let features = ran.items();
    assert_eq!(features[0]["driver"], "GeoJSON");
    let expected = [
        json!({ "id": "R-1", "form": "well", "wkt": "POINT Z (16.37 48.21 171.5)" }),
        json!({ "id": "R-2", "form": "site", "wkt": "POINT (151.25 -33.5)" }),
        json!({ "id": "R-3", "form": "nowhere", "wkt": null }),
    ];
    assert_eq!(features[1..], expected);
}

#[test]
fn machines_that_wrote_apart_show_the_same() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    record(&a, &["create", "R-1", "site"]);
    b.serve();
    agree(&[&a, &b]);
    a.stop();
    b.stop();
    // Apart: both set one field, and more.
    for n in 0..3 {
        record(&a, &["set", "R-1", "status", &format!("a{n}")]);
        record(&b, &["set", "R-1", "status", &format!("b{n}")]);
        record(&b, &["note", "R-1", &format!("note {n}")]);
    }
    let before = uuid(&a.run(["log", "--limit", "1", "--reverse"])[0]);
    let apart = raw(&a, &["--at", &before, "records", "--format", "json"]);
    let photo = b.file("photo.png", &[7; 100_000]);
    let key = text(&record(&b, &["attach", "R-1", "photo", arg(&photo)]), "key");
    a.serve();
    b.serve();
    agree(&[&a, &b]);
    let shown = raw(&a, &["records", "--format", "json"]);
    assert_eq!(shown, raw(&b, &["records", "--format", "json"]));
    let one = record(&b, &["show", "R-1"]);
    assert_eq!(one["fields"]["status"], "b2", "the last by clock");
    assert_eq!(one["notes"].as_array().unwrap().len(), 3);
    // A daemon that has shown the view brings it up to date, also with what it hears from others.
    record(&a, &["set", "R-1", "status", "after"]);
    agree(&[&a, &b]);
    assert_eq!(record(&b, &["show", "R-1"])["fields"]["status"], "after");
    assert_eq!(a.get(&key), vec![7; 100_000]);
    // As of then, everything is as it was then.
    for machine in [&a, &b] {
        assert_eq!(raw(machine, &["--at", &before, "records", "--format", "json"]), apart);
    }
    // What is erased counts no more.
    let secret = uuid(&record(&a, &["set", "R-1", "status", "secret"]));
    assert_eq!(record(&a, &["show", "R-1"])["fields"]["status"], "secret");
    a.one(["erase", &secret, "--reason", "test"]);
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        assert_eq!(record(machine, &["show", "R-1"])["fields"]["status"], "after");
    }
}

#[test]
fn a_stick_carries_records_and_what_is_attached() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    // From here on there is no network: nobody serves.
    a.stop();
    let stick = temp.path().join("stick");
    let tips = temp.path().join("tips.json");
    // All that the other one lacks, and no more, on a stick.
    let carry = |from: &Machine, to: &Machine| {
        std::fs::write(&tips, to.one(["frontier"]).to_string()).unwrap();
        from.one(["bundle", "export", arg(&stick), "--for", arg(&tips)]);
        to.one(["bundle", "import", arg(&stick)])
    };
    record(&a, &["create", "R-1", "site"]);
    record(&a, &["set", "R-1", "status", "seen"]);
    assert_eq!(carry(&a, &b)["events"], 2);
    let photos = [(&a, noise(1, 300_000)), (&b, noise(2, 150_001))];
    let keys = photos.each_ref().map(|(machine, bytes)| {
        // Both change the record that both know, and each has one that the other has never heard of.
        let own = format!("R-{}", machine.name);
        record(machine, &["create", &own, "well"]);
        record(machine, &["set", "R-1", "status", machine.name]);
        record(machine, &["note", &own, "dry"]);
        let photo = machine.file("photo.jpg", bytes);
        text(&record(machine, &["attach", "R-1", "photo", arg(&photo)]), "key")
    });
    let apart = [&a, &b].map(|machine| raw(machine, &["records", "--format", "json"]));
    assert_ne!(apart[0], apart[1]);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let came = carry(from, to);
        assert_eq!(came["artifacts"], 1, "{came}");
    }
    agree(&[&a, &b]);
    for format in ["json", "csv", "geojson"] {
        let shown = [&a, &b].map(|machine| raw(machine, &["records", "--format", format]));
        assert_eq!(shown[0], shown[1]);
        let told = ["R-1", "R-a", "R-b"].into_iter().chain(keys.iter().map(String::as_str));
        told.for_each(|word| assert!(shown[0].contains(word), "{word}: {}", shown[0]));
    }
    assert_eq!(record(&a, &["show", "R-1"])["fields"]["status"], "b", "the last one");
    for machine in [&a, &b] {
        for (key, (_, bytes)) in keys.iter().zip(&photos) {
            assert!(machine.get(key) == *bytes, "{}: {key}", machine.name);
        }
        machine.verify_clean();
    }
    assert_eq!(carry(&a, &b)["events"], 0, "there is nothing left to carry");
}

#[test]
fn declared_tables() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    a.one(["emit", "sensor.report", r#"{"station":"s","temp":3,"seen":["x"]}"#]);
    a.one(["emit", "sensor.report", r#"{"station":"s","temp":7.5,"seen":["y","x"]}"#]);
    let declared = a.file(
        "stations.toml",
        b"[[table]]\nname = \"stations\"\nkinds = [\"sensor.report\"]\nkey = \"station\"\n\
        [table.columns]\ntemp = { rule = \"max\" }\nseen = { rule = \"set-union\" }\n",
    );
    let rows = a.run(["records", "--reducer", arg(&declared)]);
    let expected =
        json!({ "table": "stations", "key": "s", "columns": { "temp": 7.5, "seen": ["x", "y"] } });
    assert_eq!(rows, [expected]);
    let bad = a.file("bad.toml", b"[[table]]\nname = 1\n");
    assert!(a.try_run(["records", "--reducer", arg(&bad)]).fails(3).contains("hint"));
}

#[test]
fn data_files_of_meshlogd() {
    let Some(place) = meshlogd::place() else { return };
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let files = temp.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut write = meshlogd::script(&place, "0.1.0", "log_oracle.py");
    write.args(["write", arg(&files), "1", "3"]);
    finish(write, b"");
    let file = files.join("0000.jsonl");
    let mut lines = std::fs::read(&file).unwrap();
    let count = lines.iter().filter(|byte| **byte == b'\n').count();
    let mut views = meshlogd::script(&place, "0.1.0", "log_oracle.py");
    views.args(["views", arg(&files)]);
    let shown = finish(views, b"").stdout;
    let view = shown.split(' ').next().unwrap();
    let view = data_encoding::HEXLOWER.decode(view.as_bytes()).unwrap();
    // The file on one machine, with a torn end and a bad line, and on the other as it was.
    lines.extend_from_slice(b"{\"a\":1}\n{\"a\":\"x\",\"s");
    let damaged = a.file("damaged.jsonl", &lines);
    let ran = a.try_run(["load", "--format", "meshlog", arg(&damaged)]);
    assert!(ran.fails(3).contains(&format!("line {}", count + 1)), "{}", ran.stderr);
    let came = &ran.items()[0];
    assert_eq!((&came["events"], came["bad"].as_array().unwrap().len()), (&count.into(), 1));
    assert!(came["torn_at"].as_u64().is_some());
    let load = |machine: &Machine| machine.one(["load", "--format", "meshlog", arg(&file)]);
    assert_eq!(load(&b)["events"], count, "b has not heard of them yet");
    b.one(["sync"]);
    assert_eq!((&load(&a)["events"], &load(&a)["known"]), (&0.into(), &count.into()));
    // What meshlogd shows is what both show, to the byte.
    let text = String::from_utf8(view).unwrap();
    for machine in [&a, &b] {
        let records = raw(machine, &["records", "--format", "json"]);
        let joined: Vec<String> = records.lines().map(|line| format!("\"R\":{line}")).collect();
        assert_eq!(format!("{{{}}}", joined.join(",")), text);
    }
}

#[test]
fn a_data_file_goes_out_and_comes_back() {
    let Some(place) = meshlogd::place() else { return };
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    // Two machines with a name in meshes, of which one signs, and one without.
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let c = Machine::joined("c", temp.path(), &ticket);
    let author = |machine: &Machine, more: &[&str]| {
        text(&machine.one([&["mesh", "identity"], more].concat()), "identity")
    };
    let authors = [author(&a, &["--signed"]), author(&b, &[])];
    record(&a, &["create", "R-a", "site"]);
    record(&a, &["set", "R-a", "name", "Brücke"]);
    record(&b, &["set", "R-a", "name", "bridge"]);
    record(&c, &["set", "R-c", "name", "nowhere"]);
    let files = temp.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut write = meshlogd::script(&place, "0.1.0", "log_oracle.py");
    write.args(["write", arg(&files), "1", "3"]);
    assert_eq!(finish(write, b"").code, 0);
    let file = files.join("0000.jsonl");
    let foreign = std::fs::read_to_string(&file).unwrap();
    let count = foreign.lines().count();
    assert_eq!(a.one(["load", "--format", "meshlog", arg(&file)])["events"], count);
    for machine in [&b, &c] {
        machine.one(["sync"]);
    }
    b.one(["sync"]);
    // Out: on all machines the same, the foreign lines as they were.
    let out = temp.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let written = out.join("0000.jsonl");
    let done = a.try_run(["export", "--format", "meshlog", arg(&written)]);
    assert_eq!(
        (done.code, &done.items()[0]["events"]),
        (0, &(count + 3).into()),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("without the records of 1 machines"), "{}", done.stderr);
    let lines = std::fs::read_to_string(&written).unwrap();
    assert_eq!(raw(&b, &["export", "--format", "meshlog"]), lines);
    assert!(foreign.lines().all(|line| lines.contains(line)), "{lines}");
    let of = |author: &str| -> Vec<Value> {
        let parsed = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|event| event["a"] == author).collect()
    };
    assert_eq!([of(&authors[0]).len(), of(&authors[1]).len()], [2, 1]);
    assert!(of(&authors[0]).iter().all(|event| event["g"].is_string()), "signed");
    // meshlogd loads it, and shows what a new domain shows that loads it.
    let mut views = meshlogd::script(&place, "0.1.0", "log_oracle.py");
    views.args(["views", arg(&out)]);
    let shown = finish(views, b"").stdout;
    let view = data_encoding::HEXLOWER.decode(shown.split(' ').next().unwrap().as_bytes()).unwrap();
    let other = Machine::found("other", temp.path());
    let load = |machine: &Machine| machine.one(["load", "--format", "meshlog", arg(&written)]);
    assert_eq!(load(&other)["events"], count + 3);
    let records = raw(&other, &["records", "--format", "json"]);
    let [foreign, ours] = records.lines().collect::<Vec<_>>()[..] else { panic!("{records}") };
    let expected = format!("{{\"R\":{foreign},\"R-a\":{ours}}}");
    assert_eq!(String::from_utf8(view).unwrap(), expected);
    assert_eq!(serde_json::from_str::<Value>(ours).unwrap(), record(&a, &["show", "R-a"]));
    // Back in: nothing twice.
    for machine in [&a, &other] {
        assert_eq!(load(machine)["events"], 0);
    }
    assert_eq!(load(&a)["own"], 3);
    assert_eq!(raw(&other, &["export", "--format", "meshlog"]), lines);
    // As of an event it is what it was then.
    let first = uuid(&a.run(["log", "--kind", "record.create"])[0]);
    assert_eq!(raw(&a, &["--at", &first, "export", "--format", "meshlog"]), "");
}

/// What a client of meshlogd's socket does: it waits for the greeting, then asks.
struct MeshClient<S: std::io::Read + Write> {
    stream: BufReader<S>,
    hello: Value,
    asked: u64,
}

impl<S: std::io::Read + Write> MeshClient<S> {
    fn greeted(stream: S) -> Self {
        let mut client = Self { stream: BufReader::new(stream), hello: Value::Null, asked: 0 };
        client.hello = client.line();
        client
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.stream.read_line(&mut line).unwrap() > 0, "the daemon hung up");
        serde_json::from_str(&line).expect(&line)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params });
        writeln!(self.stream.get_mut(), "{request}").unwrap();
        let answer = self.line();
        assert_eq!(answer["id"], self.asked, "{answer}");
        answer["result"].clone()
    }
}

#[test]
fn clients_of_meshlogd_are_served() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let path = temp.path().join("mesh.sock");
    a.serve_with(&["--meshlog-unix", arg(&path), "--meshlog-tcp", "127.0.0.1:0"]);
    let tcp = text(&a.ready, "socket");
    let mut on_control = MeshClient::greeted(UnixStream::connect(tcp).unwrap());
    let mut on_unix = MeshClient::greeted(UnixStream::connect(&path).unwrap());
    let places = a.ready["meshlog"].as_array().unwrap();
    let addr = places.iter().filter_map(Value::as_str).find(|place| place.contains("127.0.0.1"));
    let stream = TcpStream::connect(addr.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut on_tcp = MeshClient::greeted(stream);
    let node = text(&a.one(["id"]), "node");
    for hello in [&on_control.hello, &on_unix.hello, &on_tcp.hello] {
        assert_eq!(hello["method"], "hello");
        assert_eq!(hello["params"]["protocol"], "meshlog.socket/1");
        assert_eq!(hello["params"]["node"], node.as_str());
    }
    let subscribed = on_tcp.call("subscribe", json!({}));
    assert_eq!(subscribed["state"], json!({}));
    // Records that a client emits are native ones, and what is emitted elsewhere reaches clients.
    let create = json!({ "kind": "record.create", "payload": { "record_id": "R-1", "form": "site", "by": node } });
    let first = on_control.call("emit", create)["event"].clone();
    assert_eq!((&first["seq"], &first["author"]), (&1.into(), &node.as_str().into()));
    let odd = json!({ "kind": "sensor.x", "payload": { "b": [1e300, "\u{1f600}"], "a": null } });
    let second = on_unix.call("emit", odd.clone())["event"].clone();
    assert_eq!((&second["prev"], &second["payload"]), (&first["id"], &odd["payload"]));
    let kinds: Vec<String> = a.run(["log"]).iter().map(|event| text(event, "kind")).collect();
    assert_eq!(&kinds[kinds.len() - 2..], ["record.create", "mesh.emit"]);
    record(&a, &["set", "R-1", "people", "3"]);
    loop {
        let pushed = on_tcp.line();
        assert_eq!(pushed["method"], "state");
        if pushed["params"]["frontier"][&node] == 3 {
            assert_eq!(pushed["params"]["state"]["R-1"]["fields"]["people"], 3);
            break;
        }
    }
    let events = on_unix.call("events", json!({ "since": { node.as_str(): 2 } }));
    assert_eq!(events["events"][0]["kind"], "field.set");
    assert_eq!(on_unix.call("view", json!({}))["state"]["R-1"], record(&a, &["show", "R-1"]));
    // The same socket still answers quipu's own requests, also of a client that was slow.
    let mut slow = BufReader::new(UnixStream::connect(text(&a.ready, "socket")).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    writeln!(slow.get_mut(), r#"{{"id":7,"method":"id"}}"#).unwrap();
    let answer = slow.lines().map(Result::unwrap).find(|line| !line.contains("jsonrpc")).unwrap();
    assert!(answer.contains(&node), "{answer}");
}

#[test]
fn an_unmodified_client_cannot_tell_the_difference() {
    let Some(place) = meshlogd::place() else { return };
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.serve_with(&["--meshlog-view", "raw"]);
    let theirs = temp.path().join("theirs.sock");
    // As its users start it.
    let mut daemon = Command::new(place.join("bin/python"));
    daemon.args(["-m", "meshlog.cli", "serve", "--raw", "--author", "n", "--unix", arg(&theirs)]);
    daemon.env("PYTHONPATH", place.join("0.5.0")).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut running = daemon.stdout(Stdio::null()).spawn().unwrap();
    common::until("meshlogd serves", || UnixStream::connect(&theirs).is_ok());
    let script: Vec<String> = [
        r#"{"jsonrpc":"2.0","id":1,"method":"status"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"subscribe"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"emit","params":{"kind":"field.set","payload":{"record_id":"R","field":"f","value":1.5}}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"emit","params":{"kind":"any","payload":{"z":NaN,"a":[123456789012345678901234567890]}}}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"events"}"#,
        r#"{"jsonrpc":"2.0","id":6,"method":"view"}"#,
        r#"{"jsonrpc":"2.0","method":"emit","params":{"kind":"k","payload":{}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"emit","params":{"kind":1}}"#,
        r#"{"jsonrpc":"2.0","id":8,"method":"none"}"#,
        r#"{"jsonrpc":"2.0","id":9,"method":"unsubscribe","params":{"subscription":"s1"}}"#,
        "no json",
        "[]",
        r#"{"jsonrpc":"2.0","id":10,"method":"frontier"}"#,
    ]
    .iter()
    .map(|line| data_encoding::HEXLOWER.encode(format!("{line}\n").as_bytes()))
    .collect();
    let input = script.join("\n") + "\n";
    let ask = |address: &str, author: &str| {
        let mut client = meshlogd::script(&place, "0.5.0", "socket_client.py");
        client.arg(address);
        let ran = finish(client, input.as_bytes());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout.replace(&format!("\"{author}\""), "\"AUTHOR\"")
    };
    let node = text(&a.one(["id"]), "node");
    let ours = ask(&text(&a.ready, "socket"), &node);
    let expected = ask(arg(&theirs), "n");
    drop(running.kill());
    drop(running.wait());
    assert!(expected.contains("subscription") && expected.contains("NaN"), "{expected}");
    assert_eq!(ours, expected);
}

#[test]
fn an_identity_names_what_a_machine_writes() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    record(&a, &["create", "R-1", "site"]);
    a.serve();
    let mut client = MeshClient::greeted(UnixStream::connect(text(&a.ready, "socket")).unwrap());
    let claimed = a.one(["mesh", "identity", "--signed"]);
    assert_eq!(a.one(["mesh", "identity"]), claimed, "made once");
    let author = text(&claimed, "identity");
    let file = a.dir.join(".quipu/mesh.identity");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 64);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(record(&a, &["show", "R-1"])["created_by"], author.as_str());
    // What was written before has its name and its signature, too.
    let note = json!({ "kind": "note.add", "payload": { "record_id": "R-1", "text": "hm" } });
    let event = client.call("emit", note)["event"].clone();
    assert_eq!((&event["author"], &event["seq"]), (&author.as_str().into(), &2.into()));
    let signed = a.run(["log", "--kind", "mesh.sign"]);
    assert!(!signed.is_empty());
    let count: usize =
        signed.iter().map(|event| event["payload"]["signatures"].as_array().unwrap().len()).sum();
    assert_eq!(count, 2, "{signed:?}");
}

#[test]
fn records_are_signed_when_they_are_written() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let signatures = |machine: &Machine| -> usize {
        let events = machine.run(["log", "--kind", "mesh.sign"]);
        events.iter().map(|e| e["payload"]["signatures"].as_array().unwrap().len()).sum()
    };
    record(&a, &["create", "R-1", "site"]);
    assert_eq!(signatures(&a), 0, "nobody has said that it signs");
    // No daemon, no client, no mesh.
    a.one(["mesh", "identity", "--signed"]);
    assert_eq!(signatures(&a), 1, "what was written before");
    record(&a, &["set", "R-1", "people", "3"]);
    assert_eq!(signatures(&a), 2);
    a.emit("has nothing to do with meshes");
    assert_eq!(signatures(&a), 2);
    // In a daemon, one signature each, also if clients of meshlogd write at the same time.
    a.serve();
    record(&a, &["set", "R-1", "people", "4"]);
    let mut client = MeshClient::greeted(UnixStream::connect(text(&a.ready, "socket")).unwrap());
    for n in 0..5 {
        let note =
            json!({ "kind": "note.add", "payload": { "record_id": "R-1", "text": n.to_string() } });
        assert_eq!(client.call("emit", note)["event"]["kind"], "note.add");
        record(&a, &["set", "R-1", "people", &n.to_string()]);
    }
    assert_eq!(signatures(&a), 13);
    let file = raw(&a, &["export", "--format", "meshlog"]);
    assert_eq!(file.lines().filter(|line| line.contains("\"g\": \"")).count(), 13, "{file}");
    // A machine that does not sign writes no such events.
    let ticket = a.ticket();
    let b = Machine::joined("b", temp.path(), &ticket);
    b.one(["mesh", "identity"]);
    record(&b, &["set", "R-1", "people", "9"]);
    assert_eq!(signatures(&b), 13);
}

#[test]
fn an_admin_says_whose_events_count() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    // Written by hand, as any program could: nobody signed it.
    let body = br#"{"author":"x","hlc":[5,0],"kind":"record.create","payload":{"form":"f","record_id":"R"},"prev":"","seq":1}"#;
    let id = sha256_half(body);
    let line = format!(
        r#"{{"a":"x","s":1,"h":[5,0],"k":"record.create","p":{{"record_id":"R","form":"f"}},"v":"","i":"{id}"}}"#
    );
    let file = a.file("x.jsonl", format!("{line}\n").as_bytes());
    assert_eq!(a.one(["load", "--format", "meshlog", arg(&file)])["events"], 1);
    assert_eq!(a.run(["records"]).len(), 1);
    assert!(b.try_run(["mesh", "policy", "roster"]).fails(3).contains("admin"));
    a.one(["mesh", "policy", "roster"]);
    b.one(["sync"]);
    for machine in [&a, &b] {
        assert_eq!(machine.run(["records"]), Vec::<Value>::new());
        assert_eq!(machine.run(["mesh", "roster"])[0]["policy"], "roster");
    }
    let refused = a.try_run(["load", "--format", "meshlog", arg(&file)]);
    assert!(refused.fails(3).contains("not signed"), "{}", refused.stderr);
    a.one(["mesh", "policy", "open"]);
    a.one(["mesh", "distrust", "x"]);
    assert_eq!(a.run(["records"]), Vec::<Value>::new());
    assert_eq!(a.run(["mesh", "roster"])[1]["trusted"], false);
    let key = text(&a.one(["mesh", "identity"]), "public_key");
    a.one(["mesh", "trust", "x", "--key", &key]);
    assert_eq!(a.run(["records"]), Vec::<Value>::new(), "it is not signed");
    a.try_run(["mesh", "trust", "x", "--key", "00"]).fails(2);
}

/// The first half of a SHA-256, in hexadecimal.
fn sha256_half(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    command.arg("-");
    finish(command, bytes).stdout[..32].to_owned()
}
