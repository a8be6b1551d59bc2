// Takes "subscribers only" links from those who are none, and copies the app embed's link into account menus. Without
// this script a page still works: each link is an ordinary link in it.
(() => {
  'use strict';

  const MEMORY = 5 * 60 * 1000;
  const TIMEOUT = 5000;
  const LISTS = 'ul, ol, menu';
  const questions = new Map();

  // Each element is taken once, should a page load the script twice.
  function start() {
    for (const element of document.querySelectorAll('[data-manage-subscriptions-status], [data-manage-subscriptions-menus]')) {
      const { manageSubscriptionsStatus: status, manageSubscriptionsCustomer: customer, manageSubscriptionsMenus: menus } = element.dataset;
      delete element.dataset.manageSubscriptionsStatus;
      delete element.dataset.manageSubscriptionsMenus;
      serve(element, status, customer, menus);
    }
  }

  async function serve(element, status, customer, menus) {
    // Only a clear no takes the link away: when Recharge is down, nobody loses it.
    if (status !== undefined && (await isSubscriber(status, customer)) === false) {
      (element.closest('.shopify-app-block') ?? element).remove();
    } else if (menus !== undefined && inMenus(element, menus)) {
      element.remove();
    }
  }

  // isSubscriber is true, false, or null for "not known". However many ask, the server is asked once.
  function isSubscriber(status, customer) {
    const key = `manage-subscriptions:${customer}:${status}`;
    if (!questions.has(key)) questions.set(key, findOut(key, status));
    return questions.get(key);
  }

  async function findOut(key, status) {
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

  // A browser may refuse its storage; then the next page asks again.
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

  // inMenus copies the embed's link into each account menu, and tells whether there is one that now has it.
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
      // An SVG's link has no pathname, and "Not you? Log out" is a sentence, no menu.
      if (!logout.pathname?.includes('/account/logout') || inSentence(logout)) continue;
      const item = logout.closest('li');
      // A list item with more links in it is the menu's own, not this link's.
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

  // entryLike makes a link, in a list item if it is to look like one, with the theme's own classes.
  function entryLike(item, anchor, link) {
    const a = likeness('a', anchor);
    a.href = link.getAttribute('href');
    a.textContent = link.textContent;
    if (!item) return a;
    const li = likeness('li', item);
    li.append(a);
    return li;
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
