//! What holds when calls come one after the other.

use std::time::Duration;

use maxscale_core::id::Id;

use super::{DEVICE, LATER, Suite, begin, load, most, new, ok, revoke, secret, touch};
use crate::session::{
    Created, Level, Previous, Reach, Roles, Rotation, Session, SessionStore, Which,
};

impl<S: SessionStore, F: Fn() -> Id> Suite<S, F> {
    pub(super) async fn alone(&self) {
        self.session_is_read_back_by_both().await;
        self.id_is_used_once().await;
        self.one_too_many_ends_the_one_that_rested_longest().await;
        self.exchange_keeps_the_secret_before_at_its_level().await;
        self.touch_moves_forward_only().await;
        self.revoked_session_stays_so().await;
        self.own_session_outlives_the_others().await;
        self.list_has_what_lives().await;
        self.roles_are_seen_at_once().await;
        self.change_underneath_may_be_told_of_again().await;
    }

    async fn session_is_read_back_by_both(&self) {
        let mut session = self.session(self.draw());
        session.actor = Some(self.draw());
        assert_eq!(load(self.one(), &session).await, None);
        begin(self.one(), &session).await;
        for store in [self.one(), self.other()] {
            assert_eq!(load(store, &session).await.as_ref(), Some(&session));
        }
        let elsewhere = Session {
            user: self.draw(),
            ..session.clone()
        };
        assert_eq!(load(self.one(), &elsewhere).await, None, "another's");
        // A second one is seen by who had read that there is one.
        let second = self.begun(session.user).await;
        assert_eq!(load(self.other(), &second).await, Some(second));
        assert_eq!(load(self.other(), &session).await, Some(session));
    }

    async fn id_is_used_once(&self) {
        let session = self.begun(self.draw()).await;
        let again = Session {
            secret_hash: secret(2),
            ..session.clone()
        };
        let exists = async || ok(self.other().create(&new(&again), most(1)).await);
        assert_eq!(exists().await, Created::Exists);
        assert_eq!(load(self.one(), &session).await.as_ref(), Some(&session));
        revoke(self.one(), session.user, Which::All).await;
        assert_eq!(exists().await, Created::Exists, "it was revoked");
        assert_eq!(load(self.one(), &session).await, None);
    }

    async fn one_too_many_ends_the_one_that_rested_longest(&self) {
        let user = self.draw();
        let (first, second) = (self.begun(user).await, self.begun(user).await);
        touch(self.one(), &first, self.now.after(LATER)).await;
        // One that is over takes nobody's place.
        let mut over = self.session(user);
        over.ends_at = self.now;
        begin(self.one(), &over).await;

        let third = self.session(user);
        let created = ok(self.one().create(&new(&third), most(2)).await);

        let ended = vec![second.id];
        assert_eq!(created, Created::Stored { ended });
        for store in [self.one(), self.other()] {
            assert!(load(store, &first).await.is_some());
            assert_eq!(load(store, &second).await, None);
            assert!(load(store, &third).await.is_some());
        }
    }

    async fn exchange_keeps_the_secret_before_at_its_level(&self) {
        let session = self.begun(self.draw()).await;
        let rotation = self.rotation(1, 2);
        let rotate = async |rotation: Rotation| {
            let rotated = self.other().rotate(session.user, session.id, &rotation);
            ok(rotated.await)
        };
        assert!(!rotate(self.rotation(2, 3)).await, "another version");
        assert!(rotate(rotation).await);
        assert!(!rotate(rotation).await, "twice");

        let expected = Session {
            secret_hash: rotation.secret_hash,
            authenticated_at: rotation.authenticated_at,
            level: rotation.level,
            methods: rotation.methods,
            version: 2,
            previous: Some(Previous {
                secret_hash: session.secret_hash,
                until: rotation.grace_until,
                level: Level::Aal1,
            }),
            ..session.clone()
        };
        for store in [self.one(), self.other()] {
            assert_eq!(load(store, &session).await.as_ref(), Some(&expected));
        }
        let unknown = self.one().rotate(session.user, self.draw(), &rotation);
        assert!(!ok(unknown.await));
    }

    async fn touch_moves_forward_only(&self) {
        let session = self.begun(self.draw()).await;
        let (later, latest) = (self.now.after(LATER), self.now.after(2 * LATER));
        for (at, expected) in [(latest, latest), (later, latest)] {
            touch(self.one(), &session, at).await;
            for store in [self.one(), self.other()] {
                let found = load(store, &session).await;
                assert_eq!(found.map(|it| it.last_active), Some(expected));
            }
        }
        let never = self.session(session.user);
        touch(self.one(), &never, latest).await;
        assert_eq!(load(self.one(), &never).await, None, "made by a touch");
        ok(self.one().touch(&[]).await);
    }

    async fn revoked_session_stays_so(&self) {
        let session = self.begun(self.draw()).await;
        let user = session.user;
        assert_eq!(load(self.other(), &session).await.as_ref(), Some(&session));
        assert!(
            revoke(self.one(), user, Which::One(self.draw()))
                .await
                .is_empty()
        );
        assert_eq!(load(self.other(), &session).await.as_ref(), Some(&session));

        assert_eq!(
            revoke(self.one(), user, Which::One(session.id)).await,
            [session.id]
        );
        assert!(revoke(self.other(), user, Which::All).await.is_empty());

        for store in [self.one(), self.other()] {
            touch(store, &session, self.now.after(LATER)).await;
            assert!(!ok(store
                .rotate(user, session.id, &self.rotation(1, 2))
                .await));
            assert_eq!(load(store, &session).await, None);
        }
    }

    async fn own_session_outlives_the_others(&self) {
        let user = self.draw();
        let own = self.begun(user).await;
        let mut others = [self.begun(user).await.id, self.begun(user).await.id];
        others.sort();
        assert!(load(self.other(), &own).await.is_some());

        assert_eq!(
            revoke(self.one(), user, Which::Others(own.id)).await,
            others
        );

        assert!(load(self.other(), &own).await.is_some());
        assert_eq!(revoke(self.one(), user, Which::All).await, [own.id]);
        assert!(load(self.other(), &own).await.is_none());
    }

    async fn list_has_what_lives(&self) {
        let user = self.draw();
        assert!(ok(self.one().list(user).await).is_empty());
        let mut sessions = Vec::new();
        for _ in 0..3 {
            sessions.push(self.begun(user).await);
        }
        revoke(self.one(), user, Which::One(sessions.remove(1).id)).await;
        // Ids rise with time: the newest first.
        sessions.sort_by_key(|it| std::cmp::Reverse(it.id));

        let listed = ok(self.other().list(user).await);
        assert!(listed.iter().all(|it| it.device == DEVICE));
        let listed: Vec<Session> = listed.into_iter().map(|it| it.session).collect();
        assert_eq!(listed, sessions);
    }

    async fn roles_are_seen_at_once(&self) {
        let user = self.draw();
        let roles = |names: [&str; 2]| Roles::new(names).expect("two names");
        let set = async |roles: &Roles| {
            let reach = ok(self.one().set_roles(user, roles).await);
            assert_eq!(reach, Reach::Everywhere, "all of the store is up");
        };
        let first = roles(["editor", "reader"]);
        set(&first).await;
        let session = self.begun(user).await;
        let standing = async |store: &S| {
            let found = ok(store.load(user, session.id).await);
            found.expect("the session is there").1
        };
        let before = standing(self.other()).await;
        assert_eq!(before.roles, first);

        // Longer than a small value.
        let names: Vec<String> = (0..40).map(|n| format!("role-number-{n}")).collect();
        for roles in [
            roles(["admin", "reader"]),
            Roles::new(names.iter().map(String::as_str)).expect("40 names"),
            Roles::default(),
        ] {
            set(&roles).await;
            for store in [self.one(), self.other()] {
                let after = standing(store).await;
                assert_eq!(after.roles, roles);
                assert!(after.changes > before.changes, "{before:?} {after:?}");
            }
        }
    }

    async fn change_underneath_may_be_told_of_again(&self) {
        let session = self.begun(self.draw()).await;
        for user in [session.user, self.draw()] {
            for _ in 0..2 {
                let reach = ok(self.other().changed(user).await);
                assert_eq!(reach, Reach::Everywhere, "all of the store is up");
            }
        }
        touch(self.one(), &session, self.now.after(Duration::from_secs(1))).await;
        assert!(load(self.one(), &session).await.is_some());
    }
}
