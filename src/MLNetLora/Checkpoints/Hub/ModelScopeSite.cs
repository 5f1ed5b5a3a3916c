using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>ModelScope. It tells of errors in answers of status 200, names contents by their SHA-256 whatever their size, and tells the commit of a branch
/// only in part.</summary>
internal sealed class ModelScopeSite(Uri endpoint) : HubSite("ModelScope", "master", endpoint)
{
    public override string TokenVariable => "MODELSCOPE_API_TOKEN";

    public override string Page(HubId id) => Under($"/models/{id.Name}").AbsoluteUri;

    public override Uri ListAddress(HubId id) =>
        Under($"/api/v1/models/{id.Name}/repo/files?Revision={Uri.EscapeDataString(id.Revision ?? DefaultRevision)}&Recursive=true");

    public override Uri FileAddress(HubId id, string revision, string path) =>
        Under($"/api/v1/models/{id.Name}/repo?Revision={Uri.EscapeDataString(revision)}&FilePath={Uri.EscapeDataString(path)}");

    public override void Authorize(HttpRequestMessage request, string token)
    {
        // Newer parts of the API read the header, older ones the cookie.
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        request.Headers.Add("Cookie", $"m_session_id={token}");
    }

    public override HubListing ReadList(JsonElement answer, HubId id)
    {
        if (answer.ValueKind != JsonValueKind.Object || !answer.TryGetProperty("Data", out JsonElement data))
        {
            throw NoList(this, id, "there is no Data");
        }

        if ((answer.TryGetProperty("Success", out JsonElement success) && success.ValueKind == JsonValueKind.False) || data.ValueKind != JsonValueKind.Object)
        {
            throw new HubException(
                $"ModelScope has no model {id.Name}, or it is private (it says '{HubErrors.Shown(Text(answer, "Message"))}'). Check the name; for a private model set "
                + $"{TokenVariable}.");
        }

        if (!data.TryGetProperty("Files", out JsonElement files) || files.ValueKind != JsonValueKind.Array)
        {
            throw new HubException($"{id.Name} has no revision '{id.Revision ?? DefaultRevision}' on ModelScope; its main branch is {DefaultRevision}.");
        }

        JsonElement[] blobs = [.. files.EnumerateArray().Where(file => Text(file, "Type") != "tree")];
        HubFile[] all = [.. blobs.Select(File)];
        string? commit = Commit(data, blobs, id.Revision);
        return new HubListing(commit ?? Fingerprint(all), commit ?? id.Revision ?? DefaultRevision, all);
    }

    private static HubFile File(JsonElement item)
    {
        string? hash = Text(item, "Sha256")?.ToLowerInvariant();
        return new HubFile(Text(item, "Path") ?? "", Length(item, "Size"), HubFile.IsHex(hash, 64) ? hash! : "");
    }

    /// <summary>The commit that the revision is. Of the latest one its first digits are told, and each file tells the commit that changed it last, of which the
    /// latest one is one.</summary>
    private static string? Commit(JsonElement data, IEnumerable<JsonElement> blobs, string? revision)
    {
        if (revision is not null && HubId.IsCommit(revision))
        {
            return revision.ToLowerInvariant();
        }

        if (!data.TryGetProperty("LatestCommitter", out JsonElement latest))
        {
            return null;
        }

        string[] known = [Text(latest, "Id") ?? "", .. blobs.Select(file => Text(file, "Revision") ?? "")];
        string? first = Text(latest, "ShortId");
        return known.Where((commit, i) => HubId.IsCommit(commit)
                && (i == 0 || (first is not null && HubId.IsCommitPrefix(first) && commit.StartsWith(first, StringComparison.OrdinalIgnoreCase))))
            .FirstOrDefault()?.ToLowerInvariant();
    }

    /// <summary>What stands for a commit where none is told: the same files have the same one.</summary>
    private static string Fingerprint(IEnumerable<HubFile> files) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(
        string.Join('\n', files.Select(file => $"{file.Path}\0{file.Blob}").Order(StringComparer.Ordinal)))))[..40];
}
