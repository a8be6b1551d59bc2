// Asks the server whether the customer subscribes, and shows or hides the page's "subscribers only" links, which keep
// their space. Copies the app embed's link into account menus. The page works without this script, because each link
// in it is an ordinary link.
(() => {
  'use strict';

  const MEMORY = 5 * 60 * 1000;
  const TIMEOUT = 5000;
  const LISTS = 'ul, ol, menu';
  const SUBSCRIBERS = 'manage-subscriptions--subscribers';
  const page = document.documentElement.dataset;

  // Each element is handled once, even if a page loads the script twice.
  function start() {
    for (const embed of document.querySelectorAll('[data-manage-subscriptions-menus]')) {
      const { manageSubscriptionsMenus: selector } = embed.dataset;
      delete embed.dataset.manageSubscriptionsMenus;
      if (inMenus(embed, selector)) embed.remove();
    }
    showToSubscribers();
  }

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

  // inMenus copies the embed's link into each account menu, and reports whether it found one.
  function inMenus(embed, selector) {
    const link = (embed.querySelector('template')?.content ?? embed).querySelector('a');
    let found = false;
    const add = (menu, place) => {
      if (embed.contains(menu)) return;
      found = true;
      if (!leadsThere(menu, link, embed)) place();
    };
    for (const menu of chosenMenus(selector)) {
      add(menu, () => append(menu, link));
    }
    for (const logout of document.querySelectorAll('a[href*="/account/logout"]')) {
      // An SVG's link has no pathname, and "Not you? Log out" is a sentence, not a menu.
      if (!logout.pathname?.includes('/account/logout') || inSentence(logout)) continue;
      const item = logout.closest('li');
      // A list item with several links belongs to the menu, not to this link.
      const entry = item?.querySelectorAll('a').length === 1 ? item : logout;
      const menu = entry.parentElement.closest(`${LISTS}, nav, details, dialog, [role="menu"]`) ?? entry.parentElement;
      add(menu, () => entry.before(entryLike(entry === item && item, logout, link), ' '));
    }
    return found;
  }

  function inSentence(link) {
    return [...link.parentElement.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && /\p{L}/u.test(node.data));
  }

  function chosenMenus(selector) {
    try {
      return selector ? document.querySelectorAll(selector) : [];
    } catch {
      return []; // not a selector
    }
  }

  function leadsThere(menu, link, embed) {
    const ours = new URL(link.getAttribute('href'), location.href);
    return [...menu.querySelectorAll('a[href]')].some(
      (a) => !embed.contains(a) && a.host === ours.host && bare(a.pathname) === bare(ours.pathname),
    );
  }

  const bare = (path) => path.replace(/\/+$/, '');

  function append(menu, link) {
    const list = menu.matches(LISTS) ? menu : menu.querySelector(LISTS);
    const last = [...(list ?? menu).querySelectorAll('a')].pop();
    (list ?? menu).append(' ', entryLike(list && (list.lastElementChild ?? document.createElement('li')), last, link));
  }

  // entryLike returns a link with the theme's own classes, in a list item like item if there is one.
  function entryLike(item, anchor, link) {
    const a = likeness('a', anchor);
    a.href = link.getAttribute('href');
    a.textContent = link.textContent;
    const entry = item ? likeness('li', item) : a;
    if (item) entry.append(a);
    if (link.closest(`.${SUBSCRIBERS}`)) entry.classList.add(SUBSCRIBERS);
    return entry;
  }

  function likeness(tag, model) {
    const element = document.createElement(tag);
    for (const name of ['class', 'role']) {
      if (model?.hasAttribute(name)) element.setAttribute(name, model.getAttribute(name));
    }
    return element;
  }

  if (document.readyState === 'loading') {
    document.addEventListener('DOMContentLoaded', start, { once: true });
  } else {
    start();
  }
})();
