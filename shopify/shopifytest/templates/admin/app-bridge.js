// An emulated App Bridge with session tokens, fetch, direct access to the Admin API,
// s-app-nav, the save bar of forms and the bounce page only. It asks the admin page around this frame, which
// it finds by the host parameter.
(() => {
  const here = new URL(location.href);
  const host = here.searchParams.get('host') || sessionStorage.getItem('shopifytest-host');
  if (!host || window.parent === window) return;
  sessionStorage.setItem('shopifytest-host', host);
  const admin = 'http://' + atob(host.replace(/-/g, '+').replace(/_/g, '/')).split('/')[0];

  // The save bar. A form with data-save-bar has one while it is not as it was drawn.
  // https://shopify.dev/docs/api/app-home/latest/app-bridge-web-components/save-bar
  let unsaved;
  const barFor = (form) => {
    unsaved = form;
    window.parent.postMessage({ bridge: 'saveBar', shown: Boolean(form) }, admin);
  };
  const changed = (field) => (field.options
    ? field.value !== ([...field.options].find((option) => option.defaultSelected) ?? field.options[0]).value
    : field.value !== field.defaultValue || field.checked !== field.defaultChecked);
  const look = ({ target }) => {
    const form = target.form ?? target.closest('form');
    if (form?.hasAttribute('data-save-bar')) barFor([...form.elements].some((field) => field.name && changed(field)) ? form : undefined);
  };
  for (const event of ['input', 'change']) document.addEventListener(event, look);
  for (const event of ['submit', 'reset']) document.addEventListener(event, ({ target }) => { if (target === unsaved) barFor(); });

  let last = 0;
  const waiting = new Map();
  const navLinks = () => [...document.querySelectorAll('s-app-nav s-link')];
  addEventListener('DOMContentLoaded', () => {
    const links = navLinks().map((link) => ({ href: link.getAttribute('href'), label: link.textContent, home: link.getAttribute('rel') === 'home' }));
    window.parent.postMessage({ bridge: 'nav', links, at: location.pathname + location.hash }, admin);
  });

  addEventListener('message', (event) => {
    if (event.source !== window.parent || event.origin !== admin) return;
    if (event.data?.bridge === 'navigate') {
      const { href } = event.data;
      const link = navLinks().find((link) => link.getAttribute('href') === href);
      const navigate = new CustomEvent('shopify:navigate', { bubbles: true, cancelable: true });
      if (!link || link.dispatchEvent(navigate)) window.parent.postMessage({ bridge: 'load', href }, admin);
    }
    if (event.data?.bridge === 'save') unsaved?.requestSubmit();
    if (event.data?.bridge === 'discard') unsaved?.reset();
    if (!waiting.has(event.data?.id)) return;
    waiting.get(event.data.id)(event.data.answer);
    waiting.delete(event.data.id);
  });
  const ask = (bridge, body) => new Promise((resolve) => {
    const id = ++last;
    waiting.set(id, resolve);
    window.parent.postMessage({ bridge, id, body }, admin);
  });
  const idToken = () => ask('idToken');

  const plain = window.fetch.bind(window);
  window.fetch = async (input, init = {}) => {
    if (input === 'shopify:admin/api/graphql.json') {
      const { status, text } = await ask('adminAPI', init.body);
      return new Response(text, { status });
    }
    const request = new Request(input, init);
    if (new URL(request.url).origin !== location.origin || request.headers.has('Authorization')) return plain(request);
    const again = request.clone();
    request.headers.set('Authorization', 'Bearer ' + await idToken());
    const answer = await plain(request);
    if (answer.status !== 401 || !answer.headers.has('X-Shopify-Retry-Invalid-Session-Request')) return answer;
    again.headers.set('Authorization', 'Bearer ' + await idToken());
    return plain(again);
  };

  window.shopify = { idToken, toast: { show: (text) => console.log(text) }, config: { apiKey: document.querySelector('meta[name="shopify-api-key"]')?.content } };

  const reload = here.searchParams.get('shopify-reload');
  if (reload) {
    idToken().then((token) => {
      const to = new URL(reload, location.href);
      to.searchParams.set('id_token', token);
      location.replace(to);
    });
  }
})();
