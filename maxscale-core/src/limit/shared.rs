//! Redis as [`Limits`](super::Limits) uses it: tokens are taken ahead, what it denied
//! is remembered, what comes at once goes together, and an error is no decision.

mod clock;
mod denials;
mod flights;
mod instances;
mod leases;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::lease::Left;
use super::{
    Call, Charge, Decision, Edit, Granted, LimitStore as _, Policy, RedisLimits, Run, Source,
    Standing, ask,
};
use crate::Chain;
use crate::redis::RedisError;
use denials::Denials;
use flights::Flights;
use instances::Instances;
use leases::{Errands, Leases, MARGIN, Unspent};

/// How long the log says nothing more of a server that refuses to count.
const QUIET: Duration = Duration::from_secs(60);

/// How often it is looked for leases that nobody uses.
const SWEEP: Duration = Duration::from_millis(200);

/// How many keys are given back at once.
const AT_ONCE: usize = 256;

pub(super) struct Shared {
    pub(super) redis: RedisLimits,
    flights: Flights,
    denials: Denials,
    leases: Leases,
    instances: Instances,
    pub(super) runtime: Handle,
    /// When the log may say again that Redis does not count.
    quiet_until: Mutex<Option<Instant>>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn start(redis: RedisLimits) -> Arc<Self> {
        let shared = Arc::new(Self {
            instances: Instances::start(&redis),
            runtime: Handle::current(),
            flights: Flights::new(redis.is_one_place(), redis.patience()),
            redis,
            denials: Denials::new(),
            leases: Leases::new(),
            quiet_until: Mutex::default(),
        });
        (shared.runtime).spawn(sweep(Arc::downgrade(&shared)));
        shared
    }

    /// How a policy stands that denied a moment ago, and still must.
    pub(super) fn denied_already(
        &self,
        principal: &str,
        policy: &Policy,
        cost: u32,
    ) -> Option<Standing> {
        // A shadow wants to be counted.
        if policy.is_shadow() {
            return None;
        }
        self.denials.find_one(principal, policy, cost)
    }

    /// Decides without waiting, if this process holds tokens of all policies or knows
    /// that one of the others denies; else gives what it spent, by place.
    pub(super) fn begin(
        self: &Arc<Self>,
        principal: &str,
        charges: &[Charge],
    ) -> Result<Decision, Vec<Option<Standing>>> {
        // Who denies anyway is known before anything is spent.
        let never_leased = |charge: &&Charge| charge.policy.lease().is_none();
        if let Some(standings) = self.denied(principal, charges.iter().filter(never_leased)) {
            return Ok(Decision::new(standings, Source::DenyCache));
        }
        let spend = |it: &Charge| {
            let spent = self.spend(principal, &it.policy, it.cost);
            spent.map(|(policy, left)| Standing::leased(policy, left))
        };
        let spent: Vec<_> = charges.iter().map(spend).collect();
        let rest = charges.iter().zip(&spent);
        let rest = rest
            .filter(|(_, it)| it.is_none())
            .map(|(charge, _)| charge);
        let asked = match rest.clone().next() {
            None => Decision::new(Vec::new(), Source::Lease),
            Some(_) => match self.denied(principal, rest) {
                Some(standings) => Decision::new(standings, Source::DenyCache),
                None => return Err(spent),
            },
        };
        Ok(self.end(principal, charges, spent, asked))
    }

    /// Puts what was spent and what was asked together; what was spent is put back if
    /// another policy denies.
    pub(super) fn end(
        &self,
        principal: &str,
        charges: &[Charge],
        spent: Vec<Option<Standing>>,
        asked: Decision,
    ) -> Decision {
        if spent.iter().all(Option::is_none) {
            return asked;
        }
        if !asked.is_allowed() {
            let each = charges.iter().zip(&spent);
            for (charge, _) in each.filter(|(_, spent)| spent.is_some()) {
                self.put_back(principal, charge);
            }
        }
        let source = asked.source();
        // A denial that is remembered tells only of the policies that denied.
        let mut asked = asked.into_standings().into_iter();
        let mut standings = Vec::with_capacity(charges.len());
        for spent in spent {
            standings.extend(spent.or_else(|| asked.next()));
        }
        Decision::new(standings, source)
    }

    /// Spends of the tokens that this process holds; none if it holds not enough.
    #[inline]
    pub(super) fn spend(
        self: &Arc<Self>,
        principal: &str,
        policy: &Policy,
        cost: u32,
    ) -> Option<(Policy, Left)> {
        let terms = policy.lease()?;
        if cost == 0 || cost > terms.most {
            return None;
        }
        let mut errands = Errands::default();
        let of = (policy, terms);
        let spent = self.leases.spend(principal, of, cost, &mut errands);
        if errands.ask.is_some() || errands.unspent.is_some() {
            self.run_errands(principal, policy, errands);
        }
        spent
    }

    #[cold]
    fn run_errands(self: &Arc<Self>, principal: &str, policy: &Policy, errands: Errands) {
        if let Some(unspent) = errands.unspent {
            let shared = self.clone();
            self.runtime
                .spawn(async move { shared.take_back(&unspent).await });
        }
        if let Some(tokens) = errands.ask {
            self.runtime.spawn(self.clone().refill(Unspent {
                principal: principal.into(),
                policy: policy.clone(),
                tokens,
            }));
        }
    }

    /// Puts back what [`spend`](Self::spend) spent; false if there is no lease for it.
    pub(super) fn put_back(&self, principal: &str, charge: &Charge) -> bool {
        (self.leases).put_back(principal, &charge.policy, charge.cost)
    }

    /// Gives back what is leased and not spent.
    pub(super) async fn hand_back(&self) {
        self.take_all_back(self.leases.take_all()).await;
    }

    /// No more at once than leave room for requests.
    async fn take_all_back(&self, unspent: Vec<Unspent>) {
        futures_util::stream::iter(&unspent)
            .for_each_concurrent(AT_ONCE, |unspent| self.take_back(unspent))
            .await;
    }

    async fn refill(self: Arc<Self>, wanted: Unspent) {
        let Some(terms) = wanted.policy.lease() else {
            return;
        };
        let call = Call {
            principal: wanted.principal.clone(),
            entries: vec![ask::entry(&wanted.policy.clone().into())],
            runs: vec![Run {
                count: wanted.tokens,
                costs: vec![1],
                force: false,
            }],
        };
        let sent = self.leases.now();
        let granted = self.run(&call).await;
        let granted = granted.as_deref().and_then(<[_]>::first);
        let answer = granted.and_then(|it| Some((it.count, *it.statuses.first()?)));
        let arrived = self.leases.answered(&wanted, terms, sent, answer);
        let in_time = self.leases.now() + MARGIN < sent + terms.ttl;
        if !arrived
            && in_time
            && let Some((tokens, _)) = answer
        {
            self.take_back(&Unspent { tokens, ..wanted }).await;
        }
    }

    async fn take_back(&self, unspent: &Unspent) {
        if let Some(terms) = unspent.policy.lease() {
            let (principal, name) = (&unspent.principal, unspent.policy.name());
            let taken = (self.redis).take_back(principal, name, terms, unspent.tokens, None);
            self.told(taken.await);
        }
    }

    /// What denied requests like this one a moment ago, if it still must.
    pub(super) fn denied<'a>(
        &self,
        principal: &str,
        charges: impl IntoIterator<Item = &'a Charge>,
    ) -> Option<Vec<Standing>> {
        self.denials.find(principal, charges)
    }

    /// Decides a request; none if Redis does not.
    pub(super) async fn ask(
        self: &Arc<Self>,
        principal: &str,
        charges: &[Charge],
    ) -> Option<Vec<Standing>> {
        let (mut standings, sent) = Flights::ask(self, principal, charges).await?;
        for standing in standings.iter_mut().filter(|it| !it.allowed) {
            // It is not asked again before, so nobody is told to come earlier.
            if let Some(terms) = standing.policy.lease() {
                let wait = &mut standing.status.retry_after;
                *wait = wait.map(|wait| wait.max(terms.hold));
            }
        }
        self.denials.note(principal, charges, &standings, sent);
        Some(standings)
    }

    pub(super) fn tag(&self, principal: &str) -> u128 {
        self.redis.tag(principal)
    }

    /// How many processes count here, as far as is known.
    pub(super) fn instances(&self) -> u32 {
        self.instances.count()
    }

    pub(super) async fn run(&self, call: &Call) -> Option<Vec<Granted>> {
        self.told(self.redis.run(call).await)
    }

    async fn run_all(&self, calls: &[Call]) -> Option<Vec<Vec<Granted>>> {
        self.told(self.redis.run_all(calls).await)
    }

    pub(super) async fn edit(&self, principal: &str, policy: &Policy, edit: Edit) -> bool {
        let edited = self
            .redis
            .edit(principal, policy.name(), policy.rule(), edit);
        let edited = self.told(edited.await).is_some();
        self.denials.forget(principal, policy.name());
        self.leases.forget(principal, policy);
        edited
    }

    /// Something was given back, so what was denied may be admitted.
    pub(super) fn forget(&self, call: &Call) {
        for entry in &call.entries {
            self.denials.forget(&call.principal, &entry.policy);
        }
    }

    pub(super) fn told<T>(&self, done: Result<T, RedisError>) -> Option<T> {
        // Of a server that does not answer the handle tells, once for all keys.
        if let Err(error @ (RedisError::Server { .. } | RedisError::Reply { .. })) = &done
            && self.may_tell()
        {
            let cause = Chain(error).to_string();
            tracing::warn!(cause, "redis does not count; this process limits alone");
        }
        done.ok()
    }

    fn may_tell(&self) -> bool {
        let quiet_until = self.quiet_until.lock();
        // Nothing panics while holding it.
        let mut quiet_until = quiet_until.unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may_tell = quiet_until.is_none_or(|until| now >= until);
        if may_tell {
            *quiet_until = Some(now + QUIET);
        }
        may_tell
    }
}

/// Gives back what nobody uses, as long as somebody is there.
async fn sweep(shared: Weak<Shared>) {
    loop {
        sleep(SWEEP).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.take_all_back(shared.leases.idle()).await;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("redis", &self.redis)
            .field("instances", &self.instances.count())
            .finish_non_exhaustive()
    }
}
