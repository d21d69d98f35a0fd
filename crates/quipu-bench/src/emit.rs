//! Writing: in batches, one by one, and by many at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use quipu_core::domain::Parameters;
use quipu_node::Driver;
use quipu_node::api::{Api, NewEvent, Request};
use quipu_node::home::Home;
use quipu_node::service::{Handle, Mailbox, Network, Offline, Peers, Service, SystemClock};
use quipu_store::{RealDisk, StoreOptions};

use crate::limits::Limits;
use crate::workload::founder;
use crate::{Result, figure, rate};

fn event(n: usize) -> Result<NewEvent> {
    let text = format!(r#"{{"record_id":"R-{n}","field":"f1","value":"abcdefghij0123456789"}}"#);
    let payload = serde_json::value::RawValue::from_string(text)?;
    Ok(NewEvent { kind: "field.set".to_owned(), payload: Some(payload) })
}

fn emit(api: &mut Api, events: Vec<NewEvent>) -> Result<()> {
    Ok(api.answer(Request::Emit { events }, &mut |_| Ok(()))?)
}

pub(crate) fn run(dir: &Path, limits: &Limits) -> Result<()> {
    let path = dir.join("emit");
    let key = founder();
    let home = Home::create(&path, &key)?;
    let disk = Arc::new(RealDisk::new(home.dir())?);
    let options = StoreOptions::default();
    type Real = Driver<RealDisk, SystemClock, Box<dyn Network>>;
    let parameters = Parameters { name: "emit".to_owned(), ..Parameters::default() };
    let domain = Real::found(disk.clone(), &parameters, &key, [5; 32], 1_790_000_000_000, options)?;
    let offline: Box<dyn Network> = Box::new(Offline);
    let (driver, _) = Driver::open(
        disk,
        (domain, quipu_core::event::Log::Internal),
        key,
        [6; 32],
        SystemClock,
        offline,
        options,
    )?;
    let service = Service::start(home, driver, Mailbox::default(), Peers::None);
    batches(&service.handle(), limits)?;
    singles(&service.handle(), limits)?;
    clients(&service.handle())?;
    service.stop()?;
    drop(std::fs::remove_dir_all(path));
    Ok(())
}

fn batches(handle: &Handle, limits: &Limits) -> Result<()> {
    const EVENTS: usize = 200_000;
    let mut api = Api::new(handle.clone())?;
    let mut chunks: Vec<Vec<NewEvent>> = Vec::new();
    for chunk in 0..EVENTS / 2_000 {
        chunks.push((0..2_000).map(|n| event(chunk * 2_000 + n)).collect::<Result<_>>()?);
    }
    let start = Instant::now();
    for chunk in chunks {
        emit(&mut api, chunk)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let share = 100.0 * EVENTS as f64 / seconds / limits.sign;
    let note = format!("{share:.0}% of the signing rate of one core");
    figure("emit in batches of 2,000, from JSON", rate(EVENTS, seconds), &note);
    Ok(())
}

fn singles(handle: &Handle, limits: &Limits) -> Result<()> {
    let mut api = Api::new(handle.clone())?;
    let mut waits = Vec::new();
    for n in 0..500 {
        let event = event(n)?;
        let start = Instant::now();
        emit(&mut api, vec![event])?;
        waits.push(start.elapsed().as_secs_f64());
    }
    waits.sort_by(f64::total_cmp);
    let median = waits[waits.len() / 2];
    let note = format!("{:.1} fsyncs", median / limits.fsync);
    figure("one event, durable (median)", format!("{:.0} us", median * 1e6), &note);
    Ok(())
}

fn clients(handle: &Handle) -> Result<()> {
    const CLIENTS: usize = 64;
    const EACH: usize = 500;
    let start = Instant::now();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let handle = handle.clone();
            std::thread::spawn(move || -> Result<()> {
                let mut api = Api::new(handle)?;
                for n in 0..EACH {
                    emit(&mut api, vec![event(client * EACH + n)?])?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")??;
    }
    let seconds = start.elapsed().as_secs_f64();
    figure("64 clients, one event a request, all durable", rate(CLIENTS * EACH, seconds), "");
    Ok(())
}
