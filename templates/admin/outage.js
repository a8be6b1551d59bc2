// While the server cannot reach its database, this page asks until it can, and then loads the app home with a fresh
// session token. App Bridge adds one to every fetch.
(() => {
  const { poll, home } = document.body.dataset;
  const ask = async () => {
    const answer = await fetch(poll).catch(() => undefined);
    if (answer?.ok) location.replace(home);
    else setTimeout(ask, 3000);
  };
  setTimeout(ask, 3000);
})();
