// Builds docs/ into a static site with search, for GitHub Pages: `npm run site`. The pages are
// written for GitHub, and nothing in them is for this site alone. The build fails if a link leads
// nowhere, or if a page is in no menu.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { renderMermaidSVG } from 'beautiful-mermaid'
import { defineConfig } from 'vitepress'

const repository = 'https://github.com/manage-subscriptions/manage-subscriptions'
const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const docs = join(root, 'docs')

// Every page is in one of these menus. `listing` is every page of docs/listing/.
const menus = {
  Merchants: ['merchants', 'faq', 'compare'],
  'Theme developers': ['themes'],
  'Headless developers': ['headless'],
  Operators: ['install', 'operate', 'commands', 'upgrade', 'scale', 'redis', 'metrics', 'settings', 'security', 'privacy', 'listing'],
  Contributors: ['architecture', 'reference', 'dependencies', 'echo-v5'],
}

const pages = readdirSync(docs, { recursive: true })
  .filter((file) => file.endsWith('.md') && file !== 'index.md')
  .map((file) => file.slice(0, -'.md'.length))
  .sort()

const under = (folder) => pages.filter((page) => page === folder || page.startsWith(`${folder}/`))

function sidebar() {
  const found = Object.entries(menus).map(([text, names]) => ({ text, pages: names.flatMap(under) }))
  const listed = new Set(found.flatMap((menu) => menu.pages))
  const missing = pages.filter((page) => !listed.has(page))
  if (missing.length) throw new Error(`in no menu of docs/.vitepress/config.mjs: ${missing.join(', ')}`)
  return found
    .filter((menu) => menu.pages.length)
    .map((menu) => ({ text: menu.text, items: menu.pages.map((page) => ({ text: title(page), link: `/${page}` })) }))
}

function title(page) {
  const heading = readFileSync(join(docs, `${page}.md`), 'utf8').match(/^# (.+)$/m)
  if (!heading) throw new Error(`docs/${page}.md has no title`)
  return heading[1].replaceAll('`', '')
}

// A link to a file that is not a page leads to the repository.
function repositoryLinks(md) {
  md.core.ruler.push('repository-links', ({ tokens, env }) => {
    for (const link of tokens.flatMap((token) => token.children ?? []).filter((t) => t.type === 'link_open')) {
      const [, path, anchor] = link.attrGet('href').match(/^([^#]*)(#.*)?$/)
      if (!path || /^[a-z]+:/.test(path)) continue
      const file = relative(root, join(docs, dirname(env.relativePath), path))
      if (file.startsWith('docs/') && file.endsWith('.md')) continue
      if (!existsSync(join(root, file))) throw new Error(`docs/${env.relativePath} links to ${path}, which is missing`)
      link.attrSet('href', `${repository}/blob/main/${file}${anchor ?? ''}`)
    }
  })
}

// Liquid in a sentence is not for Vue to fill in.
function liquid(md) {
  for (const type of ['text', 'code_inline']) {
    const render = md.renderer.rules[type]
    md.renderer.rules[type] = (...args) => render(...args).replaceAll('{{', '&#123;&#123;')
  }
}

// Charts become pictures in the build, in the colors of the page, instead of by a script in the browser.
function mermaid(md) {
  const { fence } = md.renderer.rules
  md.renderer.rules.fence = (tokens, i, ...rest) => {
    if (tokens[i].info !== 'mermaid') return fence(tokens, i, ...rest)
    const colors = { bg: 'var(--vp-c-bg)', fg: 'var(--vp-c-text-1)', font: 'system-ui' }
    // The renderer takes no slash in a node's name, and would load its font from Google.
    const chart = tokens[i].content
    const named = chart.startsWith('flowchart') ? chart.replace(/(\w+)\/(\w+)/g, '$1_$2["$1/$2"]') : chart
    const svg = renderMermaidSVG(named, colors).replace(/@import url\([^)]*\);/g, '')
    return `<div class="chart" v-html="${md.utils.escapeHtml(JSON.stringify(svg))}"></div>`
  }
}

// GitHub's anchors, so that a link with # works in both places.
const slugify = (heading) =>
  heading.trim().toLowerCase().replace(/[^\p{L}\p{N}\p{M} _-]/gu, '').replaceAll(' ', '-')

export default defineConfig({
  title: 'Manage Subscriptions',
  description: "From a Shopify store into the shopper's Recharge portal, in one click",
  base: '/manage-subscriptions/',
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: { anchor: { slugify }, config: (md) => md.use(repositoryLinks).use(liquid).use(mermaid) },
  vite: { build: { target: 'es2022' } },
  themeConfig: {
    search: { provider: 'local' },
    sidebar: sidebar(),
    outline: [2, 3],
    nav: [{ text: 'GitHub', link: repository }], // a social icon may be loaded from another host
  },
})
