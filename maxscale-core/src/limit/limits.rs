use std::borrow::Cow;
use std::sync::Arc;
#[cfg(feature = "redis")]
use std::time::Duration;

#[cfg(feature = "redis")]
use tokio::runtime::Handle;

use super::oversight::Oversight;
use super::{Call, Decision, Edit, LocalLimits, Policy, Source, Standing, ask};
#[cfg(feature = "redis")]
use super::{Down, RedisLimits, lease::Left, shared::Shared};

/// Decides requests by policies, for applications: it always has an answer.
/// Cheap to clone; clones share their counts.
///
/// Shared through Redis, it counts for all processes. Of rates that are asked for
/// often this process takes tokens ahead, and spends them without asking
/// ([`Policy::leased`] says what is promised then). Requests of a principal that come while one of the same is on its way go together with the next
/// command, in their order; and what was denied is denied again by this process
/// until its wait is over, a second at most. While Redis is down, each policy
/// says what is decided ([`Down`]); as soon as it is back, it counts again.
#[derive(Clone, Debug)]
pub struct Limits(pub(super) Arc<Parts>);

/// What decides, and what is known beside.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) local: LocalLimits,
    pub(super) oversight: Arc<Oversight>,
    pub(super) tells_principals: bool,
    #[cfg(feature = "redis")]
    pub(super) shared: Option<Arc<Shared>>,
}

/// What a request costs under a policy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Charge {
    /// The policy.
    pub policy: Policy,
    /// How many tokens: more than the rule ever has are denied for ever.
    pub cost: u32,
}

/// A decision for which the store has to be asked.
pub(super) struct Begun {
    /// The charges by other rules, where there are such for this principal.
    ruled: Option<Vec<Charge>>,
    /// What was spent already, by place.
    spent: Vec<Option<Standing>>,
}

/// How long who is denied because the store is down is told to wait.
#[cfg(feature = "redis")]
const AGAIN: Duration = Duration::from_secs(1);

// === impl Charge ===

impl Charge {
    /// `cost` tokens of `policy`.
    pub const fn new(policy: Policy, cost: u32) -> Self {
        Self { policy, cost }
    }
}

impl From<Policy> for Charge {
    /// One token.
    fn from(policy: Policy) -> Self {
        Self::new(policy, 1)
    }
}

// === impl Limits ===

impl Limits {
    /// Limits of this process alone.
    pub fn local(local: LocalLimits) -> Self {
        Self(Arc::new(Parts {
            oversight: Arc::new(Oversight::new(local.clock())),
            tells_principals: false,
            local,
            #[cfg(feature = "redis")]
            shared: None,
        }))
    }

    /// Limits shared through Redis, and `local` while it is down.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime: it counts the processes in the background.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn shared(redis: RedisLimits, local: LocalLimits) -> Self {
        let oversight = Oversight::new(local.clock()).shared(&redis);
        Self(Arc::new(Parts {
            oversight: Arc::new(oversight),
            tells_principals: false,
            local,
            shared: Some(Shared::start(redis)),
        }))
    }

    /// Takes one token of `policy` for `principal`; needs no HTTP around it.
    pub async fn check(&self, policy: &Policy, principal: &str) -> Decision {
        // Nothing that lives across a wait, and no decision that is handed on: this is
        // what there is to do for most requests.
        #[cfg(feature = "redis")]
        if let Some((policy, left)) = self.leased(principal, policy, 1) {
            return Decision::leased(policy, left);
        }
        #[cfg(feature = "redis")]
        if let Some(decision) = self.denied_already(principal, policy, 1) {
            return decision;
        }
        let charges = [policy.clone().into()];
        match self.begin_slowly(principal, &charges) {
            Ok(decision) => decision,
            Err(begun) => self.end(principal, &charges, begun).await,
        }
    }

    /// Decides one request by several policies of `principal`, in one step and all
    /// or nothing: where one has no room, none is charged. The policies have
    /// different names.
    ///
    /// # Cancellation
    ///
    /// Dropped, it may have been charged.
    pub async fn check_each(&self, principal: &str, charges: &[Charge]) -> Decision {
        match self.begin(principal, charges) {
            Ok(decision) => decision,
            Err(begun) => self.end(principal, charges, begun).await,
        }
    }

    /// Decides without waiting where nobody has to be asked, else begins.
    pub(super) fn begin(&self, principal: &str, charges: &[Charge]) -> Result<Decision, Begun> {
        #[cfg(feature = "redis")]
        if let [only] = charges
            && let Some((policy, left)) = self.leased(principal, &only.policy, only.cost)
        {
            return Ok(Decision::leased(policy, left));
        }
        #[cfg(feature = "redis")]
        if let [only] = charges
            && let Some(decision) = self.denied_already(principal, &only.policy, only.cost)
        {
            return Ok(decision);
        }
        self.begin_slowly(principal, charges)
    }

    /// Spends of what this process holds, if the policy's rule is that of everybody.
    #[cfg(feature = "redis")]
    #[inline]
    fn leased(&self, principal: &str, policy: &Policy, cost: u32) -> Option<(Policy, Left)> {
        let shared = self.0.shared.as_ref()?;
        if self.overrides().any() {
            return None;
        }
        let spent = shared.spend(principal, policy, cost)?;
        policy.count(true, Source::Lease);
        Some(spent)
    }

    /// Remembers that the store denied, if the policy's rule is that of everybody.
    #[cfg(feature = "redis")]
    fn denied_already(&self, principal: &str, policy: &Policy, cost: u32) -> Option<Decision> {
        let shared = self.0.shared.as_ref()?;
        if self.overrides().any() {
            return None;
        }
        let standing = shared.denied_already(principal, policy, cost)?;
        let decision = Decision::one(standing, Source::DenyCache);
        self.count(principal, &decision);
        Some(decision)
    }

    /// As [`begin`](Self::begin), after a lone charge was neither
    /// [`leased`](Self::leased) nor [`denied_already`](Self::denied_already).
    fn begin_slowly(&self, principal: &str, charges: &[Charge]) -> Result<Decision, Begun> {
        let ruled = self.ruled(principal, charges);
        #[cfg(feature = "redis")]
        if self.0.shared.is_some() && matches!(ruled, Cow::Borrowed([_])) {
            let (ruled, spent) = (None, vec![None]);
            return Err(Begun { ruled, spent });
        }
        match self.begun(principal, &ruled) {
            Ok(decision) => {
                self.count(principal, &decision);
                Ok(decision)
            }
            Err(spent) => Err(Begun {
                ruled: match ruled {
                    Cow::Borrowed(_) => None,
                    Cow::Owned(ruled) => Some(ruled),
                },
                spent,
            }),
        }
    }

    fn begun(
        &self,
        principal: &str,
        charges: &[Charge],
    ) -> Result<Decision, Vec<Option<Standing>>> {
        if charges.is_empty() {
            return Ok(Decision::new(Vec::new(), Source::Store));
        }
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            return shared.begin(principal, charges);
        }
        Ok(match charges {
            [only] => Decision::one(self.one_locally(principal, only), Source::Store),
            several => Decision::new(self.locally(principal, several), Source::Store),
        })
    }

    /// Ends what [`begin`](Self::begin) has begun: policies of which nothing was spent
    /// are asked for together, and if they deny, what was spent is put back.
    pub(super) async fn end(&self, principal: &str, charges: &[Charge], begun: Begun) -> Decision {
        let charges = begun.ruled.as_deref().unwrap_or(charges);
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            let decision = self.ask(shared, principal, charges, begun.spent).await;
            self.count(principal, &decision);
            return decision;
        }
        debug_assert!(begun.spent.is_empty(), "without a store nobody is asked");
        Decision::new(self.locally(principal, charges), Source::Store)
    }

    fn count(&self, principal: &str, decision: &Decision) {
        if !decision.is_allowed() {
            self.count_denied(principal, decision);
        }
        for Standing {
            policy, allowed, ..
        } in decision.standings()
        {
            policy.count(*allowed, decision.source());
        }
    }

    #[cfg(feature = "redis")]
    async fn ask(
        &self,
        shared: &Arc<Shared>,
        principal: &str,
        charges: &[Charge],
        spent: Vec<Option<Standing>>,
    ) -> Decision {
        let open = charges.iter().zip(&spent).filter(|(_, it)| it.is_none());
        let rest: Cow<'_, [Charge]> = match spent.iter().any(Option::is_some) {
            true => open.map(|(charge, _)| charge.clone()).collect(),
            false => charges.into(),
        };
        let asked = match shared.ask(principal, &rest).await {
            Some(standings) => Decision::new(standings, Source::Store),
            None => self.while_down(principal, &rest),
        };
        shared.end(principal, charges, spent, asked)
    }

    /// Decides one request by policies of several principals, each as
    /// [`check_each`](Self::check_each) and all at once. Where one denies, what
    /// others took is given back in the background; until then it counts.
    ///
    /// # Cancellation
    ///
    /// Dropped, it may have been charged, and nothing is given back.
    pub async fn check_all(&self, asked: &[(&str, &[Charge])]) -> Decision {
        let decisions = self.each(asked).await;
        let allowed = decisions.iter().all(Decision::is_allowed);
        for ((principal, charges), one) in asked.iter().zip(&decisions) {
            if !allowed && one.is_allowed() {
                // A shadow may have had no room, and then took nothing.
                let taken = charges.iter().zip(one.standings());
                let taken = taken.filter(|(_, standing)| standing.allowed);
                let taken: Vec<Charge> = taken.map(|(charge, _)| charge.clone()).collect();
                self.give_back_later(principal, &taken, one.source());
            }
        }
        let source = decisions.iter().map(Decision::source).max();
        let standings = decisions.into_iter().flat_map(Decision::into_standings);
        Decision::new(standings.collect(), source.unwrap_or(Source::Store))
    }

    /// How things stand, without taking anything.
    pub async fn peek(&self, principal: &str, charges: &[Charge]) -> Decision {
        let charges = &*self.ruled(principal, charges);
        let call = ask::call(principal, charges, 0, false);
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            let answers = shared.run(&call).await;
            if let Some(standings) = answers.and_then(|it| ask::of_one(charges, &it)) {
                return Decision::new(standings, Source::Store);
            }
        }
        let answers = self.0.local.run_now(&self.share(call));
        let standings = ask::of_one(charges, &answers).unwrap_or_default();
        let alone = self.is_alone();
        Decision::new(
            standings,
            if alone {
                Source::Store
            } else {
                Source::Fallback
            },
        )
    }

    /// Charges for what has happened already, also where there is no room: what
    /// comes next waits the longer for it, up to twice as long.
    pub async fn charge(&self, principal: &str, charges: &[Charge]) {
        let charges = self.ruled(principal, charges);
        self.run(ask::call(principal, &charges, 1, true)).await;
    }

    /// Gives back what an allowed request took from its store and did not use; the
    /// oldest tokens first. Of one that was decided by [`Source::Fallback`] there is
    /// nothing to give back.
    pub async fn give_back(&self, principal: &str, charges: &[Charge]) {
        let charges = self.ruled(principal, charges);
        self.run(ask::back(principal, &charges)).await;
    }

    /// Gives back what this process has leased and not spent: for the end of a service,
    /// once it admits no more requests. What is not given back is lost for its time.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub async fn hand_back(&self) {
        if let Some(shared) = &self.0.shared {
            shared.hand_back().await;
        }
    }

    /// Sets what is kept of `principal` under `policy`. False where Redis did not
    /// answer, and only this process knows; then set it again.
    pub async fn edit(&self, principal: &str, policy: &Policy, edit: Edit) -> bool {
        let policy = &*self.ruled_policy(principal, policy);
        (self.0.local).edit_now(principal, policy.name(), policy.rule(), edit);
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            return shared.edit(principal, policy, edit).await;
        }
        true
    }

    /// Stands for a principal where others may read: in Redis, in what is told.
    pub(super) fn tag(&self, principal: &str) -> u128 {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            return shared.tag(principal);
        }
        self.0.local.tag(principal)
    }

    fn is_alone(&self) -> bool {
        #[cfg(feature = "redis")]
        return self.0.shared.is_none();
        #[cfg(not(feature = "redis"))]
        true
    }

    async fn run(&self, call: Call) {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared
            && shared.run(&call).await.is_some()
        {
            shared.forget(&call);
            return;
        }
        self.0.local.run_now(&self.share(call));
    }

    /// What this process decides of it while Redis is down.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_self, reason = "it is alone")
    )]
    fn share(&self, call: Call) -> Call {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared {
            return ask::share(call, shared.instances());
        }
        call
    }

    #[cfg(feature = "redis")]
    async fn each(&self, asked: &[(&str, &[Charge])]) -> Vec<Decision> {
        let each = asked
            .iter()
            .map(|(principal, charges)| self.check_each(principal, charges));
        futures_util::future::join_all(each).await
    }

    #[cfg(not(feature = "redis"))]
    async fn each(&self, asked: &[(&str, &[Charge])]) -> Vec<Decision> {
        let mut decisions = Vec::with_capacity(asked.len());
        for (principal, charges) in asked {
            decisions.push(self.check_each(principal, charges).await);
        }
        decisions
    }

    fn give_back_later(&self, principal: &str, charges: &[Charge], from: Source) {
        let charges = &*self.ruled(principal, charges);
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.0.shared
            && from <= Source::Store
        {
            let left = charges.iter().filter(|it| !shared.put_back(principal, it));
            let left: Vec<Charge> = left.cloned().collect();
            if left.is_empty() {
                return;
            }
            let (limits, call) = (self.clone(), ask::back(principal, &left));
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(async move { limits.run(call).await });
            }
            return;
        }
        debug_assert_ne!(from, Source::DenyCache, "it allows nothing");
        self.0
            .local
            .run_now(&self.share(ask::back(principal, charges)));
    }

    fn one_locally(&self, principal: &str, Charge { policy, cost }: &Charge) -> Standing {
        let (allowed, status) = (self.0.local).take_one(principal, policy, *cost);
        Standing {
            policy: policy.clone(),
            status,
            allowed,
        }
    }

    fn locally(&self, principal: &str, charges: &[Charge]) -> Vec<Standing> {
        let call = self.share(ask::call(principal, charges, 1, false));
        let answers = self.0.local.run_now(&call);
        ask::of_one(charges, &answers).unwrap_or_default()
    }

    /// Each policy as it says.
    #[cfg(feature = "redis")]
    fn while_down(&self, principal: &str, charges: &[Charge]) -> Decision {
        let down = |charge: &Charge| charge.policy.down();
        let closed = charges.iter().any(|charge| down(charge) == Down::Closed);
        let shared = charges.iter().filter(|it| down(it) == Down::LocalShare);
        // Nobody is charged where the answer is no anyway.
        let shared: Vec<Charge> = shared.filter(|_| !closed).cloned().collect();
        let mut shares = self.locally(principal, &shared).into_iter();
        let standings = charges.iter().map(|charge| match down(charge) {
            Down::Closed => Standing::told(charge, Some(AGAIN)),
            Down::Open => Standing::told(charge, Some(Duration::ZERO)),
            Down::LocalShare => match shares.next() {
                Some(standing) => standing,
                None => Standing::told(charge, Some(Duration::ZERO)),
            },
        });
        Decision::new(standings.collect(), Source::Fallback)
    }
}
