//! Visitors who count every byte, before, at and after the platform's end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_tests::eventually;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::ask::{address, all_done, cookie_of, list};
use crate::client::{PASSWORD, PLUCK};
use crate::service::Service;
use crate::users::{Dice, wav};
use crate::wire::{End, Head, Reply, Wire};

/// What the ids of all requests begin with.
pub(crate) const PREFIX: &str = "visit-";

/// A request, and how it ended for its sender.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) end: End,
    pub(crate) expected: u16,
    cookie: String,
    /// What it created: a project of that title, a track in that project.
    made: Option<Made>,
}

#[derive(Clone, Debug)]
enum Made {
    Project { title: String },
    Track { project: String },
}

/// All visitors.
#[derive(Debug)]
pub(crate) struct Visit {
    stopping: watch::Sender<bool>,
    tasks: JoinSet<Vec<Sent>>,
}

const VISITORS: usize = 6;
const LIMIT: Duration = Duration::from_secs(60);
/// Lists show no more.
const LISTED: usize = 100;

// === impl Visit ===

impl Visit {
    /// Sends visitors, and returns in the middle of it.
    pub(crate) async fn begin(service: &Service, dice: &mut Dice) -> Self {
        let address = address(service.base());
        let answered = Arc::new(AtomicUsize::new(0));
        let (stopping, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for number in 0..VISITORS {
            let name = format!("{PREFIX}{number}");
            let visitor = Visitor::arrive(address, &name, dice.fork(), answered.clone()).await;
            tasks.spawn(visitor.busy());
        }
        let early = Arc::new(AtomicUsize::new(0));
        for number in 0..4 {
            let name = format!("{PREFIX}slow-{number}");
            let mut visitor = Visitor::arrive(address, &name, dice.fork(), early.clone()).await;
            if number == 2 {
                visitor.fill().await;
            }
            let stop = stop.clone();
            match number {
                0 | 1 => tasks.spawn(visitor.slow_upload(stop)),
                2 => tasks.spawn(visitor.slow_reader(stop)),
                _ => tasks.spawn(visitor.late_head(stop)),
            };
        }
        eventually(LIMIT, async || early.load(Ordering::Relaxed) == 4).await;
        // The slow ones have been met by the time when later requests are answered.
        let enough = answered.load(Ordering::Relaxed) + 30 + dice.below(60);
        eventually(LIMIT, async || answered.load(Ordering::Relaxed) >= enough).await;
        sleep(dice.moment(Duration::from_millis(30))).await;
        Self { stopping, tasks }
    }

    /// Tells the visitors that the platform is stopping, and waits until the
    /// last has seen its end; gives all their requests.
    pub(crate) async fn end(self) -> Vec<Sent> {
        self.stopping.send_replace(true);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

struct Visitor {
    address: SocketAddr,
    name: String,
    cookie: String,
    project: String,
    dice: Dice,
    answered: Arc<AtomicUsize>,
    sent: Vec<Sent>,
    projects: usize,
    tracks: usize,
}

// === impl Visitor ===

impl Visitor {
    /// Signs up and creates a project.
    async fn arrive(
        address: SocketAddr,
        name: &str,
        dice: Dice,
        answered: Arc<AtomicUsize>,
    ) -> Self {
        let mut visitor = Self {
            address,
            name: name.to_owned(),
            cookie: String::new(),
            project: String::new(),
            dice,
            answered,
            sent: Vec::new(),
            projects: 0,
            tracks: 0,
        };
        let mut wire = Wire::connect(address).await.unwrap();
        let body = json!({ "email": visitor.email(), "password": PASSWORD, "name": "Ada" });
        let reply = visitor
            .json(&mut wire, "POST", "/v1/signup", &body, 201)
            .await;
        visitor.cookie = cookie_of(&reply.unwrap());
        let body = json!({ "title": "First" });
        let reply = visitor
            .json(&mut wire, "POST", "/v1/projects", &body, 201)
            .await;
        visitor.project = reply.unwrap().text("/project/id");
        visitor.projects = 1;
        visitor
    }

    fn email(&self) -> String {
        format!("{}@example.com", self.name)
    }

    fn id(&self) -> String {
        format!("{}-{}", self.name, self.sent.len())
    }

    /// One request after the other, on kept and on fresh connections, until no
    /// connection is had any more.
    async fn busy(mut self) -> Vec<Sent> {
        let mut kept = None;
        loop {
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => match Wire::connect(self.address).await {
                    Ok(wire) => wire,
                    Err(error) => {
                        let gone = [
                            std::io::ErrorKind::ConnectionRefused,
                            std::io::ErrorKind::ConnectionReset,
                        ];
                        assert!(gone.contains(&error.kind()), "{error:?}");
                        return self.sent;
                    }
                },
            };
            let reply = self.step(&mut wire).await;
            self.answered.fetch_add(1, Ordering::Relaxed);
            if reply.is_some_and(|reply| !reply.closes()) && self.dice.below(4) > 0 {
                kept = Some(wire);
            }
        }
    }

    async fn step(&mut self, wire: &mut Wire) -> Option<Reply> {
        match self.dice.below(10) {
            0 | 1 if self.projects < LISTED => {
                let title = self.id();
                let body = json!({ "title": title });
                self.projects += 1;
                self.json(wire, "POST", "/v1/projects", &body, 201).await
            }
            2..5 if self.tracks < LISTED => {
                let path = format!("/v1/projects/{}/tracks", self.project);
                self.tracks += 1;
                let body = wav(&[1; 9_000]);
                self.exchange(wire, "POST", &path, "audio/wav", &body, 202)
                    .await
            }
            5 => {
                let body = json!({ "email": self.email(), "password": PASSWORD });
                // From another browser: a login ends the session that it comes with.
                let own = std::mem::take(&mut self.cookie);
                let reply = self.json(wire, "POST", "/v1/login", &body, 200).await;
                self.cookie = own;
                reply
            }
            6 => {
                let body = json!({ "name": self.id() });
                self.json(wire, "PATCH", "/v1/me", &body, 200).await
            }
            7 => {
                self.exchange(wire, "GET", "/v1/projects", "", b"", 200)
                    .await
            }
            _ => self.exchange(wire, "GET", "/v1/me", "", b"", 200).await,
        }
    }

    async fn json(
        &mut self,
        wire: &mut Wire,
        method: &str,
        path: &str,
        body: &Value,
        expected: u16,
    ) -> Option<Reply> {
        let body = body.to_string();
        let kind = "application/json";
        self.exchange(wire, method, path, kind, body.as_bytes(), expected)
            .await
    }

    async fn exchange(
        &mut self,
        wire: &mut Wire,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
        expected: u16,
    ) -> Option<Reply> {
        let head = Head {
            method,
            path,
            id: &self.id(),
            cookie: &self.cookie,
            kind,
            length: body.len(),
        };
        let end = wire.exchange(&head, body).await;
        let made = match (path, expected) {
            ("/v1/projects", 201) => Some(Made::Project {
                title: serde_json::from_slice::<Value>(body).unwrap()["title"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            }),
            (_, 202) => Some(Made::Track {
                project: self.project.clone(),
            }),
            _ => None,
        };
        self.note(end, expected, made)
    }

    fn note(&mut self, end: End, expected: u16, made: Option<Made>) -> Option<Reply> {
        let reply = match &end {
            End::Answer(reply) => Some(reply.clone()),
            End::Nothing(_) | End::Torn(_) => None,
        };
        self.sent.push(Sent {
            id: self.id(),
            end,
            expected,
            cookie: self.cookie.clone(),
            made,
        });
        reply
    }

    /// An upload whose second half comes in pieces after the stop.
    async fn slow_upload(mut self, mut stop: watch::Receiver<bool>) -> Vec<Sent> {
        let path = format!("/v1/projects/{}/tracks", self.project);
        let head = Head {
            method: "POST",
            path: &path,
            id: &self.id(),
            cookie: &self.cookie,
            kind: "audio/wav",
            length: PLUCK.len(),
        };
        let mut wire = Wire::connect(self.address).await.unwrap();
        wire.send(&head.bytes()).await.unwrap();
        let (first, second) = PLUCK.split_at(PLUCK.len() / 2);
        wire.send(first).await.unwrap();
        self.answered.fetch_add(1, Ordering::Relaxed);
        stop.wait_for(|stop| *stop).await.unwrap();
        for piece in second.chunks(second.len() / 10) {
            // A slow sender; nothing is waited for.
            sleep(Duration::from_millis(200)).await;
            wire.send(piece).await.unwrap();
        }
        let project = self.project.clone();
        let end = wire.answer().await;
        let reply = self.note(end, 202, Some(Made::Track { project }));
        assert!(reply.unwrap().closes(), "{:?}", self.sent);
        self.sent
    }

    /// Uploads enough for a long list, and waits until all of it is measured.
    async fn fill(&mut self) {
        let path = format!("/v1/projects/{}/tracks", self.project);
        let mut wire = Wire::connect(self.address).await.unwrap();
        for _ in 0..30 {
            let body = wav(&[1; 9_000]);
            self.exchange(&mut wire, "POST", &path, "audio/wav", &body, 202)
                .await;
        }
        all_done(self.address, &self.cookie, &path).await;
    }

    /// A long answer, read in pieces after the stop.
    async fn slow_reader(mut self, mut stop: watch::Receiver<bool>) -> Vec<Sent> {
        let path = format!("/v1/projects/{}/tracks", self.project);
        let head = Head {
            method: "GET",
            path: &path,
            id: &self.id(),
            cookie: &self.cookie,
            ..Head::default()
        };
        let mut wire = Wire::connect_narrow(self.address).await.unwrap();
        wire.send(&head.bytes()).await.unwrap();
        wire.read(1).await.unwrap();
        self.answered.fetch_add(1, Ordering::Relaxed);
        stop.wait_for(|stop| *stop).await.unwrap();
        for _ in 0..10 {
            // A slow reader; nothing is waited for.
            sleep(Duration::from_millis(150)).await;
            wire.read(2_000).await.unwrap();
        }
        let end = wire.answer().await;
        self.note(end, 200, None).unwrap();
        self.sent
    }

    /// Asks whether the platform is ready, in two pieces around the stop.
    async fn late_head(mut self, mut stop: watch::Receiver<bool>) -> Vec<Sent> {
        let mut wire = Wire::connect(self.address).await.unwrap();
        wire.send(b"GET /readyz HTTP/1.1\r\nhost: te")
            .await
            .unwrap();
        self.answered.fetch_add(1, Ordering::Relaxed);
        stop.wait_for(|stop| *stop).await.unwrap();
        wire.send(b"st\r\n\r\n").await.unwrap();
        let end = wire.answer().await;
        // The connection may have heard of the request before it heard of the stop:
        // whether the answer says that it closes is open.
        self.note(end, 503, None);
        self.sent.last_mut().unwrap().id = "ready".to_owned();
        self.sent
    }
}

/// Exactly what was answered is there, and waits for the jobs of it.
pub(crate) async fn assert_all_there(address: SocketAddr, sent: &[Sent]) {
    let mut made: HashMap<&str, Vec<&Sent>> = HashMap::new();
    for one in sent {
        made.entry(&one.cookie).or_default().push(one);
    }
    made.remove("");
    for (cookie, sent) in made {
        let answered = |one: &&&Sent| matches!(one.end, End::Answer(_));
        let mut titles = HashSet::new();
        let mut uploads: HashMap<&str, HashSet<String>> = HashMap::new();
        for one in sent.iter().filter(answered) {
            let End::Answer(reply) = &one.end else {
                continue;
            };
            match &one.made {
                Some(Made::Project { title }) => {
                    titles.insert(title.clone());
                }
                Some(Made::Track { project }) => {
                    let uploads = uploads.entry(project).or_default();
                    uploads.insert(reply.text("/track/id"));
                }
                None => {}
            }
        }
        let projects = list(address, cookie, "/v1/projects", "/projects").await;
        let found = projects
            .iter()
            .map(|one| one["title"].as_str().unwrap().to_owned());
        assert_eq!(found.collect::<HashSet<_>>(), titles);
        for (project, uploads) in uploads {
            let path = format!("/v1/projects/{project}/tracks");
            let found = list(address, cookie, &path, "/tracks").await;
            let found = found
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned());
            assert_eq!(found.collect::<HashSet<_>>(), uploads);
            all_done(address, cookie, &path).await;
        }
    }
}
