//! Users who keep the platform busy, and remember what they were told.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_tests::eventually;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{Answer, Client, PASSWORD, PLUCK, send};
use crate::main_job::assert_as_ffmpeg_says;

/// Chance that a seed repeats.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

/// Users at work, each task with its own.
#[derive(Debug)]
pub(crate) struct Crowd {
    acknowledged: Arc<AtomicUsize>,
    tasks: JoinSet<Book>,
}

/// What one task of a load was told.
#[derive(Debug)]
pub(crate) struct Book {
    number: usize,
    members: Vec<Member>,
    /// Emails of sign-ups without an answer.
    unsure: Vec<String>,
    drawn: usize,
}

#[derive(Debug)]
struct Member {
    client: Client,
    email: String,
    /// The names it may have: the acknowledged one, and the one without an answer.
    names: Vec<String>,
    projects: Vec<Project>,
}

#[derive(Debug)]
struct Project {
    id: String,
    title: String,
    tracks: Vec<(String, Sound)>,
}

/// What was uploaded, and so what its job must find.
#[derive(Clone, Copy, Debug)]
enum Sound {
    Tone { seconds: f64, peak: f64 },
    Pluck,
}

/// What was found of what had been acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) members: usize,
    pub(crate) projects: usize,
    pub(crate) tracks: usize,
    /// Tracks that nobody had been told of.
    pub(crate) unsure_tracks: usize,
}

/// Within which all that was acknowledged must have come to its end.
const END: Duration = Duration::from_secs(60);
const RATE: u32 = 8_000;

// === impl Dice ===

impl Dice {
    /// The dice of `MAXSCALE_SEED` when the tests were built, else new ones. Prints the seed.
    pub(crate) fn printed() -> Self {
        let seed = match option_env!("MAXSCALE_SEED") {
            Some(seed) => seed.parse().unwrap(),
            None => uuid::Uuid::new_v4().as_u64_pair().0,
        };
        eprintln!("MAXSCALE_SEED={seed}");
        Self(seed)
    }

    /// Other dice, for somebody else.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.below(usize::MAX) as u64)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 32).unwrap() % end
    }

    /// Up to `longest`.
    pub(crate) fn moment(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(f64::from(u32::try_from(self.below(1_000)).unwrap()) / 1_000.0)
    }
}

// === impl Crowd ===

impl Crowd {
    /// Sets a task to work for each book, until the platform is gone.
    pub(crate) fn start(base: &str, books: Vec<Book>, dice: &mut Dice) -> Self {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for book in books {
            let user = User {
                base: base.to_owned(),
                dice: dice.fork(),
                acknowledged: acknowledged.clone(),
            };
            tasks.spawn(user.work(book));
        }
        Self {
            acknowledged,
            tasks,
        }
    }

    /// Waits until `count` requests were acknowledged.
    pub(crate) async fn acknowledged(&mut self, count: usize) {
        let acknowledged = self.acknowledged.clone();
        let enough = eventually(Duration::from_secs(120), async || {
            let so_far = acknowledged.load(Ordering::Relaxed);
            (so_far >= count)
                .then_some(())
                .ok_or(format!("{so_far} of {count} acknowledgements"))
        });
        tokio::select! {
            () = enough => {}
            // One that ends while the platform is there has met a surprise.
            Some(ended) = self.tasks.join_next() => panic!("a user stopped early: {ended:?}"),
        }
    }

    /// Waits for the tasks to notice that the platform is gone; gives how many
    /// requests were acknowledged, and the books.
    pub(crate) async fn stopped(self) -> (usize, Vec<Book>) {
        let books = timeout(END, self.tasks.join_all()).await;
        let books = books.expect("connections of a killed process are reset");
        (self.acknowledged.load(Ordering::Relaxed), books)
    }
}

// === impl Book ===

impl Book {
    /// `count` books with nothing in them yet.
    pub(crate) fn new(count: usize) -> Vec<Self> {
        let empty = |number| Self {
            number,
            members: Vec::new(),
            unsure: Vec::new(),
            drawn: 0,
        };
        (0..count).map(empty).collect()
    }
}

struct User {
    base: String,
    dice: Dice,
    acknowledged: Arc<AtomicUsize>,
}

/// The platform was gone before it answered.
struct Gone;

// === impl User ===

impl User {
    async fn work(mut self, mut book: Book) -> Book {
        for member in &mut book.members {
            member.client = member.client.at(&self.base);
        }
        while self.step(&mut book).await.is_ok() {}
        book
    }

    async fn step(&mut self, book: &mut Book) -> Result<(), Gone> {
        if book.members.is_empty() || self.dice.below(12) == 0 {
            return self.sign_up(book).await;
        }
        book.drawn += 1;
        let mark = format!("{}-{}", book.number, book.drawn);
        // Mostly the newest: the older ones have been checked already.
        let back = self.dice.below(book.members.len().min(3));
        let at = book.members.len() - 1 - back;
        let member = &mut book.members[at];
        match self.dice.below(10) {
            0 | 1 => self.rename(member, format!("Ada {mark}")).await,
            2..5 => self.create(member, format!("Project {mark}")).await,
            _ if member.projects.is_empty() => self.create(member, format!("First {mark}")).await,
            _ => self.upload(member).await,
        }
    }

    async fn sign_up(&mut self, book: &mut Book) -> Result<(), Gone> {
        book.drawn += 1;
        let email = format!("ada-{}-{}@example.com", book.number, book.drawn);
        let client = Client::new(&self.base);
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        // Taken back on the answer.
        book.unsure.push(email.clone());
        let request = client.request(Method::POST, "/v1/signup").json(&body);
        self.told(request, 201).await?;
        book.unsure.pop();
        book.members.push(Member {
            client,
            email,
            names: vec!["Ada".to_owned()],
            projects: Vec::new(),
        });
        Ok(())
    }

    async fn rename(&self, member: &mut Member, name: String) -> Result<(), Gone> {
        let request = member.client.request(Method::PATCH, "/v1/me");
        let request = request.json(&json!({ "name": name }));
        member.names.push(name.clone());
        self.told(request, 200).await?;
        member.names = vec![name];
        Ok(())
    }

    async fn create(&self, member: &mut Member, title: String) -> Result<(), Gone> {
        let request = member.client.request(Method::POST, "/v1/projects");
        let answer = self
            .told(request.json(&json!({ "title": title })), 201)
            .await?;
        member.projects.push(Project {
            id: answer.text("/project/id"),
            title,
            tracks: Vec::new(),
        });
        Ok(())
    }

    async fn upload(&mut self, member: &mut Member) -> Result<(), Gone> {
        let at = self.dice.below(member.projects.len());
        let project = &mut member.projects[at];
        let (wav, sound) = if self.dice.below(6) == 0 {
            (PLUCK.to_vec(), Sound::Pluck)
        } else {
            tone(&mut self.dice)
        };
        let request = member.client.upload(&project.id, wav);
        let answer = self.told(request, 202).await?;
        project.tracks.push((answer.text("/track/id"), sound));
        Ok(())
    }

    /// Sends a request; the answer is an acknowledgement or the platform is gone.
    async fn told(&self, request: RequestBuilder, status: u16) -> Result<Answer, Gone> {
        match send(request).await {
            Ok(answer) => {
                assert_eq!(answer.status, status, "{answer:?}");
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) if error.is_timeout() => panic!("no answer: {error:?}"),
            Err(_) => Err(Gone),
        }
    }
}

/// A sine of 997 Hz, of which duration, peak and loudness are known, as WAV.
fn tone(dice: &mut Dice) -> (Vec<u8>, Sound) {
    let frames = 4_000 + u32::try_from(dice.below(8_000)).unwrap();
    let amplitude = 0.05 + 0.9 * f64::from(u32::try_from(dice.below(1_000)).unwrap()) / 1_000.0;
    let mut samples = Vec::new();
    let mut peak = 0_f64;
    for frame in 0..frames {
        let at = f64::from(frame) / f64::from(RATE);
        let sample = ((TAU * 997.0 * at).sin() * amplitude * 32_767.0).round();
        peak = peak.max(sample.abs() / 32_768.0);
        #[expect(clippy::cast_possible_truncation, reason = "between -32767 and 32767")]
        samples.extend((sample as i16).to_le_bytes());
    }
    let sound = Sound::Tone {
        seconds: f64::from(frames) / f64::from(RATE),
        peak: 20.0 * peak.log10(),
    };
    (wav(&samples), sound)
}

/// 16-bit samples of one channel as a WAV file.
pub(crate) fn wav(samples: &[u8]) -> Vec<u8> {
    let length = u32::try_from(samples.len()).unwrap();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(RATE.to_le_bytes());
    file.extend((2 * RATE).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// Everything in `books` is at the platform at `base`.
pub(crate) async fn assert_kept(base: &str, books: &mut [Book]) -> Found {
    let mut found = Found::default();
    for member in books.iter_mut().flat_map(|book| &mut book.members) {
        member.client = member.client.at(base);
        member.assert_kept(&mut found).await;
    }
    found
}

/// Every track, also one that nobody was told of, comes to be measured, and
/// rightly; the platform was started at `start`.
pub(crate) async fn assert_measured(start: Instant, books: &[Book]) {
    for member in books.iter().flat_map(|book| &book.members) {
        for project in &member.projects {
            member.assert_measured(project, start).await;
        }
    }
}

/// Each sign-up without an answer took place, or can take place now; gives their number.
pub(crate) async fn assert_whole(base: &str, books: &[Book]) -> usize {
    let mut count = 0;
    for email in books.iter().flat_map(|book| &book.unsure) {
        let mut tried: Option<Instant> = None;
        eventually(END, async || {
            let client = Client::new(base);
            // Few guesses may fail, and who is not there yet is a wrong guess.
            if tried.is_none_or(|at| at.elapsed() > END / 4) {
                tried = Some(Instant::now());
                let body = json!({ "email": email, "password": PASSWORD });
                if client.post("/v1/login", &body).await.status == 200 {
                    return Ok(());
                }
            }
            let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
            let answer = client.post("/v1/signup", &body).await;
            // Reserved by the one that was cut off, until its lease runs out.
            (answer.status == 201).then_some(()).ok_or(answer)
        })
        .await;
        count += 1;
    }
    count
}

impl Member {
    async fn assert_kept(&mut self, found: &mut Found) {
        let me = self.client.get("/v1/me").await;
        assert_eq!(me.status, 200, "{} is logged out: {me:?}", self.email);
        let name = me.text("/user/name");
        assert!(self.names.contains(&name), "{name} is none of {self:?}");
        self.names = vec![name];
        found.members += 1;
        for project in &self.projects {
            let path = format!("/v1/projects/{}", project.id);
            let answer = self.client.get(&path).await;
            assert_eq!(answer.status, 200, "lost {project:?}: {answer:?}");
            assert_eq!(answer.text("/project/title"), project.title);
            let listed = self.tracks(project).await.unwrap();
            for (id, _) in &project.tracks {
                track(&listed, id);
            }
            found.projects += 1;
            found.tracks += project.tracks.len();
            found.unsure_tracks += listed.len() - project.tracks.len();
        }
    }

    async fn assert_measured(&self, project: &Project, start: Instant) {
        let listed = eventually(END.saturating_sub(start.elapsed()), async || {
            let listed = self.tracks(project).await?;
            match listed.iter().find(|track| track["state"] == "queued") {
                None => Ok(listed),
                Some(track) => Err(track.to_string()),
            }
        })
        .await;
        for (id, sound) in &project.tracks {
            sound.assert_is(track(&listed, id));
        }
        for track in &listed {
            assert_eq!(track["state"], "done", "{track}");
        }
    }

    async fn tracks(&self, project: &Project) -> Result<Vec<Value>, String> {
        let path = format!("/v1/projects/{}/tracks", project.id);
        let answer = send(self.client.request(Method::GET, &path)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let tracks = answer.body["tracks"].as_array().cloned();
        tracks.ok_or_else(|| format!("{answer:?}"))
    }
}

fn track<'a>(listed: &'a [Value], id: &str) -> &'a Value {
    let found = listed.iter().find(|track| track["id"] == id);
    found.unwrap_or_else(|| panic!("lost {id}: {listed:?}"))
}

// === impl Sound ===

impl Sound {
    fn assert_is(self, track: &Value) {
        let Self::Tone { seconds, peak } = self else {
            return assert_as_ffmpeg_says(track);
        };
        assert_eq!(track["state"], "done", "{track}");
        let near = |key: &str, told: f64, rounding: f64| {
            let found = track[key].as_f64().unwrap_or(f64::NAN);
            assert!(
                (found - told).abs() <= rounding,
                "{key} is not {told}: {track}"
            );
        };
        near("duration_s", seconds, 0.000_001);
        near("peak_dbfs", peak, 0.000_1);
        // A sine of full scale on one channel has -3.01 LUFS.
        near("loudness_lufs", peak - 3.01, 0.1);
    }
}
