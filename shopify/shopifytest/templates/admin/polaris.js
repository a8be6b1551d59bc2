// Emulated Polaris web components: only the frame that they draw. Like the real ones, they are light whatever the
// browser prefers, and they space only their own children.
(() => {
  const define = (name, style) => customElements.define(name, class extends HTMLElement {
    constructor() {
      super();
      this.attachShadow({ mode: 'open' }).innerHTML = `<style>:host { display: block; ${style} }</style><slot></slot>`;
    }
  });
  define('s-page', 'min-block-size: 100vh; background: #f1f1f1;');
  define('s-section', 'padding: 16px; border-radius: 12px; background: #fff; box-shadow: 0 1px 2px #0003;');
})();
