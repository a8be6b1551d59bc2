// Shopify wants one file for each place; they hold the same block.
export { default } from "./ManageSubscriptions.tsx";
