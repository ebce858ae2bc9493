// What the server cannot do: pictures by paste and drop, Enter to send, and keeping the latest answer in view.
"use strict";

(() => {
  const composer = () => document.getElementById("composer");

  // Attachments: the file input is the only list of what is sent; the previews show it.
  function showFiles(input) {
    const list = document.getElementById("attachments");
    list.querySelectorAll("[data-file]").forEach((item) => item.remove());
    Array.from(input.files).forEach((file, place) => {
      const item = document.createElement("li");
      item.dataset.file = String(place);
      const image = document.createElement("img");
      image.src = URL.createObjectURL(file);
      image.alt = file.name;
      image.addEventListener("load", () => URL.revokeObjectURL(image.src));
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", "Remove the picture " + file.name);
      remove.addEventListener("click", () => {
        setFiles(input, Array.from(input.files).filter((_, other) => other !== place));
        document.getElementById("text").focus();
      });
      item.append(image, remove);
      list.append(item);
    });
  }

  function setFiles(input, files) {
    const transfer = new DataTransfer();
    files.forEach((file) => transfer.items.add(file));
    input.files = transfer.files;
    showFiles(input);
  }

  function addFiles(files) {
    const input = document.getElementById("pictures");
    const pictures = Array.from(files).filter((file) => file.type.startsWith("image/"));
    if (!input || !pictures.length) return false;
    setFiles(input, [...input.files, ...pictures]);
    announce(pictures.length === 1 ? "Picture added." : pictures.length + " pictures added.");
    return true;
  }

  function announce(text) {
    document.getElementById("announcer").textContent = text;
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "pictures") showFiles(event.target);
  });
  document.addEventListener("paste", (event) => {
    if (composer() && event.clipboardData && addFiles(event.clipboardData.files)) event.preventDefault();
  });
  document.addEventListener("dragover", (event) => {
    if (composer() && event.dataTransfer && Array.from(event.dataTransfer.types).includes("Files")) {
      event.preventDefault();
      composer().classList.add("dropping");
    }
  });
  ["dragleave", "drop"].forEach((name) =>
    document.addEventListener(name, () => composer() && composer().classList.remove("dropping")));
  document.addEventListener("drop", (event) => {
    if (composer() && event.dataTransfer && addFiles(event.dataTransfer.files)) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    const dismiss = event.target.closest("[data-dismiss]");
    if (dismiss) dismiss.parentElement.remove();
    const remove = event.target.closest("[data-remove]");
    if (remove) {
      remove.parentElement.remove();
      document.getElementById("text").focus();
    }
    document.querySelectorAll(".options[open]").forEach((open) => {
      if (!open.contains(event.target)) open.open = false;
    });
  });

  // Enter sends and Shift+Enter begins a new line; on a touch screen Enter always begins a new line.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      document.querySelectorAll(".options[open]").forEach((open) => {
        open.open = false;
        open.querySelector("summary").focus();
      });
    }
    const isText = event.target.id === "text" && event.target.closest("#composer");
    if (!isText || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    if (window.matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    composer().requestSubmit();
  });

  // Keep the latest answer in view, unless the reader has scrolled away.
  const isChat = document.body.classList.contains("chat") && document.getElementById("thread");
  let isAtEnd = true;
  const toEnd = () => window.scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  if (isChat) {
    if (!location.hash) toEnd();
    window.addEventListener("load", () => !location.hash && toEnd());
    window.addEventListener("scroll", () => {
      isAtEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 160;
    }, { passive: true });
    new ResizeObserver(() => isAtEnd && toEnd()).observe(document.getElementById("thread"));
    document.addEventListener("htmx:beforeRequest", (event) => {
      if (event.target.id === "composer") isAtEnd = true;
    });
  }
})();
