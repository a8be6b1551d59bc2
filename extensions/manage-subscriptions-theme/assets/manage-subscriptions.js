// Asks the server whether the customer subscribes, and shows or hides the page's "subscribers only" links, which keep
// their space. The page works without this script, because each link in it is an ordinary link.
(() => {
  'use strict';

  const MEMORY = 5 * 60 * 1000;
  const TIMEOUT = 5000;
  const page = document.documentElement.dataset;

  // Each "subscribers only" block and embed prints the same question.
  async function showToSubscribers() {
    const questions = [...document.querySelectorAll('[data-manage-subscriptions-status]')].map(({ dataset }) => dataset);
    if (questions.length === 0) return;
    const [{ manageSubscriptionsStatus: status, manageSubscriptionsCustomer: customer }] = questions;
    for (const question of questions) delete question.manageSubscriptionsStatus;
    const answer = await isSubscriber(`manage-subscriptions:${customer}`, status);
    // A link that takes no space stays away until the next page, because its return would move this one.
    if (page.manageSubscriptions === 'gone') return;
    // Only a clear no hides the link, so nobody loses it while Recharge is down.
    page.manageSubscriptions = answer === false ? 'hidden' : 'shown';
  }

  // isSubscriber resolves to true, false, or null for "not known".
  async function isSubscriber(key, status) {
    const known = recall(key);
    if (known !== undefined) return known;
    const answer = await ask(status);
    memorise(key, answer);
    return answer;
  }

  async function ask(status) {
    try {
      const response = await fetch(status, {
        credentials: 'same-origin',
        headers: { Accept: 'application/json' },
        signal: AbortSignal.timeout?.(TIMEOUT),
      });
      const { subscriber } = response.ok ? await response.json() : {};
      return typeof subscriber === 'boolean' ? subscriber : null;
    } catch {
      return null;
    }
  }

  // A browser may refuse access to its storage. Then the next page asks again.
  function recall(key) {
    try {
      const { answer, at } = JSON.parse(sessionStorage.getItem(key));
      const age = Date.now() - at;
      return age >= 0 && age < MEMORY ? answer : undefined;
    } catch {
      return undefined;
    }
  }

  function memorise(key, answer) {
    try {
      sessionStorage.setItem(key, JSON.stringify({ answer, at: Date.now() }));
    } catch {}
  }

  if (document.readyState === 'loading') {
    document.addEventListener('DOMContentLoaded', showToSubscribers, { once: true });
  } else {
    showToSubscribers();
  }
})();
