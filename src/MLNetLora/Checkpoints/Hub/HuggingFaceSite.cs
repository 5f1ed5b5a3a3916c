using System.Net.Http.Headers;
using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>Hugging Face, and mirrors with its API.</summary>
internal sealed class HuggingFaceSite(Uri endpoint) : HubSite("Hugging Face", "main", endpoint)
{
    public override string TokenVariable => "HF_TOKEN";

    public override string Page(HubId id) => Under($"/{id.Name}").AbsoluteUri;

    public override Uri ListAddress(HubId id) => Under($"/api/models/{id.Name}/revision/{Uri.EscapeDataString(id.Revision ?? DefaultRevision)}?blobs=true");

    public override Uri FileAddress(HubId id, string revision, string path) =>
        Under($"/{id.Name}/resolve/{Uri.EscapeDataString(revision)}/{string.Join('/', path.Split('/').Select(Uri.EscapeDataString))}");

    public override void Authorize(HttpRequestMessage request, string token) => request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);

    public override HubListing ReadList(JsonElement answer, HubId id)
    {
        string? commit = Text(answer, "sha")?.ToLowerInvariant();
        if (commit is null || !HubId.IsCommit(commit) || !answer.TryGetProperty("siblings", out JsonElement siblings) || siblings.ValueKind != JsonValueKind.Array)
        {
            throw NoList(this, id, "there is no commit (sha) or no list of files (siblings)");
        }

        return new HubListing(commit, commit, [.. siblings.EnumerateArray().Select(File)]);
    }

    private static HubFile File(JsonElement item)
    {
        // Large files are in git as pointers, whose hash is of no use; what they point to counts.
        bool isLarge = item.ValueKind == JsonValueKind.Object && item.TryGetProperty("lfs", out JsonElement lfs) && lfs.ValueKind == JsonValueKind.Object;
        JsonElement content = isLarge ? item.GetProperty("lfs") : item;
        string? hash = isLarge ? Text(content, "sha256") ?? Text(content, "oid") : Text(content, "blobId");
        bool isHash = HubFile.IsHex(hash, isLarge ? 64 : 40);
        return new HubFile(Text(item, "rfilename") ?? "", Length(content, "size"), isHash ? hash! : "");
    }
}
