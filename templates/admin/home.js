// The app home sends its forms and shows the answers without leaving the page.
// App Bridge adds a fresh session token to every fetch.
(() => {
  const { base, polaris, shop } = document.body.dataset;

  // load tries each address until one answers, because Shopify's CDN may not have the newest Polaris.
  const load = ([address, ...older]) => {
    if (!address) return;
    const script = document.createElement('script');
    script.src = address;
    script.onerror = () => load(older);
    document.head.append(script);
  };
  load(polaris.split(' '));

  // App Bridge shows the links of s-app-nav in the admin. If it loaded their pages itself, it could do so without a
  // session token. So this loads them, as the admin loads the first page.
  const goTo = async (href) => {
    const to = new URL(href, location.href);
    const here = new URLSearchParams(location.search);
    for (const name of ['host', 'locale']) if (here.has(name)) to.searchParams.set(name, here.get(name));
    to.searchParams.set('shop', shop);
    to.searchParams.set('embedded', '1');
    const token = await window.shopify?.idToken?.();
    if (token) to.searchParams.set('id_token', token);
    location.assign(to);
  };
  const follow = (event) => {
    const link = event.target.closest('s-app-nav [href], a[data-page]');
    if (!link) return;
    event.preventDefault();
    goTo(link.getAttribute('href'));
  };
  document.addEventListener('shopify:navigate', follow);
  document.addEventListener('click', follow);

  const { lang } = document.documentElement;
  const texts = JSON.parse(document.body.dataset.texts);
  const headers = { 'Accept-Language': lang };
  const ask = (path, body) => fetch(base + path, body ? { method: 'POST', body, headers } : { headers });

  const complain = (into, text) => {
    const note = document.createElement('p');
    note.className = 'note bad';
    note.textContent = text;
    into.replaceChildren(note);
  };

  // The server writes times in UTC, because it does not know the merchant's time zone. Most have no year, since each is
  // at most a few months away. Health is in the store's time zone, once Shopify has told it.
  let { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const locale = lang === 'en' ? 'en-GB' : lang;
  const inOwnZone = (within) => within.querySelectorAll('time').forEach((element) => {
    const date = new Date(element.dateTime);
    const written = (options) => date.toLocaleString(locale, element.closest('#health') ? { ...options, timeZone } : options);
    if ('date' in element.dataset) element.textContent = written({ day: 'numeric', month: 'short' });
    if ('day' in element.dataset) element.textContent = written({ dateStyle: 'long' });
    if ('moment' in element.dataset) {
      const time = written({ hour: '2-digit', minute: '2-digit' });
      element.textContent = texts.moment.replace('{time}', time).replace('{day}', written({ day: 'numeric', month: 'long' }));
    }
  });

  // typedIn returns what a form sends: files as their text, and times as UTC.
  async function typedIn(form, button) {
    const typed = new FormData(form, button);
    for (const { name, value } of form.querySelectorAll('[type="datetime-local"]')) {
      if (value) typed.set(name, new Date(value).toISOString());
    }
    for (const { name, files: [file] } of form.querySelectorAll('[type="file"]')) {
      typed.delete(name);
      if (file) typed.set('customers', await file.text());
    }
    return form.enctype === 'multipart/form-data' ? typed : new URLSearchParams(typed);
  }

  // show draws an answer as it arrives, so that each check appears when it is done.
  async function show(answer, into) {
    if (!answer.ok) {
      complain(into, texts[answer.status] || texts.down);
      return false;
    }
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    let html = '';
    for (;;) {
      const { done, value } = await reader.read();
      html += decoder.decode(value, { stream: !done });
      draw(html, into);
      if (done) return true;
    }
  }
  function draw(html, into) {
    into.innerHTML = html;
    inOwnZone(into);
    showDomain(into);
  }

  // refresh draws a part of the page again. What was opened in it stays open, unless the setup guide has gone on to its
  // next step, and the focus stays where it is.
  async function refresh(path, id) {
    const into = document.getElementById(id);
    if (!into) return; // not on this page
    const answer = await ask(path);
    if (!answer.ok) return;
    const html = await answer.text(); // whole, since the merchant goes on meanwhile
    const step = () => into.querySelector('.now')?.dataset.step;
    const before = step();
    const open = [...into.querySelectorAll('details[open]')].map((details) => details.id);
    const focus = into.contains(document.activeElement) ? document.activeElement.id : '';
    draw(html, into);
    if (step() === before) open.forEach((details) => { if (details) document.getElementById(details)?.setAttribute('open', ''); });
    if (focus) document.getElementById(focus)?.focus();
    publishPath();
  }

  // What the merchant looks at in Health: the days, and a bar of the chart.
  let period = 'today';
  let chosen;
  const inZone = (path) => `${path}${path.includes('?') ? '&' : '?'}zone=${encodeURIComponent(timeZone)}`;
  async function refreshHealth() {
    await refresh(inZone(`/app/health?period=${period}`), 'health');
    readBar();
  }

  // readBar says in words what the chosen bar shows, which is a row of the table.
  function readBar() {
    const slider = document.getElementById('bar');
    if (!slider) return;
    slider.value = chosen ?? slider.value;
    const table = document.getElementById(slider.dataset.reads);
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    const [when, visits, ...classes] = [...table.tBodies[0].rows[slider.value].cells].map((cell) => cell.textContent);
    const parts = classes.map((count, i) => (count === '0' ? '' : `${names[i + 2]}: ${count}`)).filter(Boolean);
    const said = [`${when} – ${names[1]}: ${visits}`, ...parts].join(' · ');
    document.getElementById('reading').textContent = said;
    slider.setAttribute('aria-valuetext', said);
    document.querySelectorAll('.bar').forEach((bar, i) => bar.classList.toggle('chosen', i === +slider.value));
  }
  document.addEventListener('input', ({ target }) => {
    if (target.id !== 'bar') return;
    chosen = target.value;
    readBar();
  });

  document.addEventListener('click', async ({ target }) => {
    const bar = target.closest('.bar');
    const button = target.closest('[data-period], [data-save]');
    try {
      if (bar) {
        chosen = [...bar.parentElement.children].indexOf(bar);
        readBar();
      } else if (button?.dataset.period) {
        ({ period } = button.dataset);
        chosen = undefined;
        await refreshHealth();
      } else if (button) {
        const answer = await ask(inZone(button.dataset.from));
        if (!answer.ok) throw new Error(answer.status);
        const link = document.createElement('a');
        link.download = button.dataset.save;
        link.href = URL.createObjectURL(await answer.blob());
        link.click();
        URL.revokeObjectURL(link.href);
      }
    } catch {
      complain(document.getElementById('health'), texts.unreachable);
    }
  });

  const shopifyAdmin = async (query, variables) => {
    const answer = await fetch('shopify:admin/api/graphql.json', { method: 'POST', body: JSON.stringify({ query, variables }) });
    return (await answer.json()).data;
  };

  // The theme's blocks read the app proxy's path from a metafield of the app. Only this page can write it, because the
  // server keeps no token for Shopify's Admin API. If Shopify refuses, the blocks keep the path that they have.
  let published;
  async function publishPath() {
    const value = document.querySelector('[data-path]')?.dataset.path;
    if (!value || value === published) return;
    const before = published;
    published = value; // not twice at the same time
    const name = { namespace: 'manage_subscriptions', key: 'path' };
    try {
      const { currentAppInstallation: app } = await shopifyAdmin(`query ($namespace: String!, $key: String!) {
        currentAppInstallation { id metafield(namespace: $namespace, key: $key) { value } }
      }`, name);
      if (app.metafield?.value === value) return;
      await shopifyAdmin(`mutation ($metafields: [MetafieldsSetInput!]!) {
        metafieldsSet(metafields: $metafields) { userErrors { message } }
      }`, { metafields: [{ ...name, ownerId: app.id, type: 'single_line_text_field', value }] });
    } catch {
      published = before;
    }
  }

  // An answer about one field goes to that field, which shows it until somebody types there.
  function pointTo(form, answer) {
    const named = form.elements[answer.dataset.invalid];
    const field = named.length && !named.options ? named[0] : named; // one of several radio buttons
    answer.id = `${field.name}-problem`;
    (field.closest('.field, fieldset') ?? field).after(answer);
    field.setAttribute('aria-invalid', 'true');
    field.setAttribute('aria-describedby', `${answer.id} ${field.getAttribute('aria-describedby') ?? ''}`.trim());
    field.focus();
  }
  function forget(form) {
    for (const field of form.querySelectorAll('[aria-invalid]')) {
      field.removeAttribute('aria-invalid');
      const described = field.getAttribute('aria-describedby').replace(/^\S+-problem ?/, '');
      if (described) field.setAttribute('aria-describedby', described);
      else field.removeAttribute('aria-describedby');
    }
    form.querySelectorAll('[data-invalid]').forEach((answer) => answer.remove());
  }

  // focusOn moves the focus to what has come in place of what had it: the next thing to do, the answer, or the heading.
  function focusOn(...parts) {
    const next = parts.map((part) => part.querySelector('[data-focus]')).find(Boolean) ?? parts[0].closest('section').querySelector('h2');
    if (!next.matches('a, button, input, summary')) next.tabIndex = -1;
    next.focus();
  }

  // keepTyped gives a form that was refused, and drawn again, what was typed in it. App Bridge notices that it is unsaved.
  function keepTyped(form, typed) {
    for (let details = form.closest('details'); details; details = details.parentElement.closest('details')) details.open = true;
    typed.forEach((value, name) => { if (form.elements[name]) form.elements[name].value = value; });
    form.dispatchEvent(new Event('change', { bubbles: true }));
  }

  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!form.dataset.post) return;
    event.preventDefault();
    const into = document.getElementById(form.dataset.into);
    const button = event.submitter ?? form.querySelector('button:not([type="button"])');
    const label = button.textContent;
    const parts = [into];
    try {
      const typed = await typedIn(form, button);
      button.disabled = true;
      button.textContent = form.dataset.busy;
      forget(form);
      const good = await show(await ask(form.dataset.post, typed), into);
      if (good && form.dataset.then && into.querySelector('[data-result="saved"]')) {
        form.reset();
        const [path, id] = form.dataset.then.split(' ');
        await refresh(path, id);
        parts.unshift(document.getElementById(id));
      }
      const now = form.isConnected ? form : into.querySelector(`form[data-post="${form.dataset.post}"]`);
      const refusal = into.querySelector('[data-invalid]');
      if (now && now !== form && into.querySelector('.note.bad[role="status"]')) keepTyped(now, typed);
      if (now && refusal) pointTo(now, refusal);
    } catch {
      complain(into, texts.unreachable);
    } finally {
      button.disabled = false;
      button.textContent = label;
      if (document.activeElement === document.body && button.isConnected) button.focus();
      else if (document.activeElement === document.body) focusOn(...parts);
    }
    refreshHealth().catch(() => {});
  });

  // A result belongs to what was typed.
  document.addEventListener('input', ({ target: { form } }) => {
    if (!form?.dataset.post) return;
    forget(form);
    if (form.dataset.clears !== undefined) document.getElementById(form.dataset.into).replaceChildren();
  });
  document.addEventListener('reset', ({ target }) => forget(target));

  // What cannot be undone is asked for again.
  document.addEventListener('click', ({ target }) => {
    const button = target.closest('[data-dialog]');
    if (button) document.getElementById(button.dataset.dialog).showModal();
  });

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = texts.copied;
    } catch { // frames may not use the clipboard, so show the text and select it
      text.closest('details')?.setAttribute('open', '');
      getSelection().selectAllChildren(text);
    }
  });

  // Only this page can ask Shopify about the store. It sends the server the name and e-mail address for our own pages,
  // and keeps the time zone and the domain. Without the domain, links lead to myshopify.com, which redirects there.
  let ownDomain = '';
  function showDomain(within) {
    if (!ownDomain) return;
    for (const link of within.querySelectorAll('[data-store]')) {
      const own = (text) => text.replace(link.dataset.store, ownDomain);
      if (link.href) link.href = own(link.href);
      else link.textContent = own(link.textContent);
    }
  }
  async function readShop() {
    try {
      const { shop } = await shopifyAdmin('query { shop { name contactEmail ianaTimezone primaryDomain { url } } }');
      timeZone = shop.ianaTimezone || timeZone;
      ask('/app/contact', new URLSearchParams({ name: shop.name, email: shop.contactEmail })).catch(() => {});
      const { protocol, origin } = new URL(shop.primaryDomain.url);
      if (!/^https?:$/.test(protocol)) return;
      ownDomain = origin;
      showDomain(document);
    } catch { /* as it is */ }
  }

  publishPath();
  inOwnZone(document);
  readShop().then(refreshHealth).catch(() => {});
  document.querySelectorAll('[data-zone]').forEach((element) => {
    element.textContent = texts.zone.replace('{}', Intl.DateTimeFormat().resolvedOptions().timeZone);
  });
  setInterval(() => {
    if (document.visibilityState === 'visible' && period === 'today') refreshHealth().catch(() => {});
  }, 10000);
  setInterval(() => {
    if (document.visibilityState !== 'visible') return;
    for (const part of ['campaigns', 'connection']) {
      if (document.querySelector(`#${part} [data-changing]`)) refresh(`/app/${part}`, part).catch(() => {});
    }
  }, 3000);
})();
