location.replace(document.querySelector("a").href)
